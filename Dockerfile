# Redtap as an image. Targets: `appliance` (the default) and `cli`, a sibling with redis-cli.
#
# Any base with Debian's packages and Python >= 3.11 on the PATH will do:
#   docker build --build-arg BASE_IMAGE=python:3.13-slim-bookworm .
ARG BASE_IMAGE=python:3.11-slim-bookworm

# --- builder: a compiled wheel, installed into an environment that the runtime copies whole --------------------------
FROM ${BASE_IMAGE} AS builder
RUN apt-get update -q \
    && apt-get install -qy --no-install-recommends gcc libc6-dev \
    && { python3 -c 'import os, sysconfig; assert os.path.exists(sysconfig.get_path("include") + "/Python.h")' 2>/dev/null \
         || apt-get install -qy --no-install-recommends python3-dev; } \
    && rm -rf /var/lib/apt/lists/*
WORKDIR /src
COPY requirements.lock requirements-build.lock ./
RUN python3 -m venv /build \
    && /build/bin/pip install -q --no-cache-dir --require-hashes -r requirements-build.lock \
    && python3 -m venv --without-pip /opt/redtap \
    && /build/bin/pip --python /opt/redtap/bin/python install -q --no-cache-dir --require-hashes -r requirements.lock
COPY pyproject.toml setup.py README.md LICENSE ./
COPY appliance appliance
COPY netns netns
# The platform in the wheel's name is the proof that it was compiled: no silent fall back to pure Python here.
RUN /build/bin/pip wheel -q --no-deps --no-build-isolation --wheel-dir /wheel . \
    && ls /wheel/redtap-*linux*.whl \
    && /build/bin/pip --python /opt/redtap/bin/python install -q --no-deps --no-index --no-compile /wheel/redtap-*.whl \
    && /opt/redtap/bin/python -m compileall -q /opt/redtap/lib

# --- cli: what a client beside the appliance needs -------------------------------------------------------------------
FROM ${BASE_IMAGE} AS cli
RUN apt-get update -q \
    && apt-get install -qy --no-install-recommends redis-tools \
    && rm -rf /var/lib/apt/lists/*
USER nobody
CMD ["redis-cli", "-h", "appliance"]

# --- appliance -------------------------------------------------------------------------------------------------------
FROM ${BASE_IMAGE} AS appliance
RUN useradd --system --user-group --no-create-home --home-dir /nonexistent --uid 910 redtap \
    && install -d -o redtap -g redtap /run/redtap
COPY --from=builder /opt/redtap /opt/redtap
ENV PATH=/opt/redtap/bin:$PATH PYTHONUNBUFFERED=1
EXPOSE 6379
# The container starts as root for the length of one line: the engine hands /dev/net/tun over with the host's mode,
# often 0600, and gives added capabilities to root alone. The line opens the container's own device node, then becomes the
# user `redtap` with NET_ADMIN (and NET_RAW, if it is to use a packet socket) and no other capability, for good
# (no new privileges).
ENTRYPOINT ["/bin/sh", "-ec", "[ ! -c /dev/net/tun ] || chmod 0666 /dev/net/tun; caps=-all,+net_admin; case \"$* ${REDTAP_LINK:-}\" in *packet*) caps=$caps,+net_raw;; esac; exec setpriv --reuid=redtap --regid=redtap --init-groups --bounding-set=$caps --inh-caps=$caps --ambient-caps=$caps --no-new-privs \"$@\"", "redtap"]
CMD ["redtap", "serve", "--takeover", "eth0"]
# Over the control socket: the container cannot reach its own address through its own kernel.
HEALTHCHECK --interval=5s --timeout=5s --start-period=20s --retries=3 CMD ["redtap", "status"]
