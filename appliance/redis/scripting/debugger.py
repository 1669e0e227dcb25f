"""SCRIPT DEBUG: a script runs line by line while its client looks on (`redis-cli --ldb`).

Before each line Lua asks `stops`. Where it does, the script stands still, and `next_action` talks with the
client until there is something that only Lua can do: show a variable, evaluate, go on (debugger.lua).

    client:  SCRIPT DEBUG YES, EVAL       step            print x           continue
    server:  where it has stopped         where           the value         <endsession>, the reply, FIN

What the client says is an array of words; what it gets is an array of lines. In step mode those tell of each
command that the script calls, and of its reply, too.

Two kinds of session. With SYNC the script runs here, what it writes stays, and everybody else waits until it
is over. With YES it runs in a copy of the process, made by fork, and nothing of what it writes is kept:
everybody else goes on. See ADR 0027.

Source:     https://redis.io/docs/latest/develop/programmability/lua-debugging/; forms of the lines, limits
            and the order of what is sent from redis-server 8.2.
Units:      nanoseconds of `Engine.stopwatch`.
Invariants: nothing that Lua calls here raises: see runtime.py.
Errors:     `redis.call` of what fails, evaluated by the client, is shown, where redis-server 8.2 crashes.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, Protocol

from appliance.redis.integers import parse_integer
from appliance.redis.quoting import quote
from appliance.redis.replies import CRLF, ReplyBuffer

if TYPE_CHECKING:
    from collections.abc import Callable

    from appliance.redis.scripting.scripts import Scripts
    from appliance.redis.session import Session

_MOST_BREAKPOINTS: Final = 64
_LENGTH: Final = 256  # to which values and replies are cut, unless `maxlen` says otherwise
_LEAST_LENGTH: Final = 60
_CONTEXT: Final = 5  # lines before and after, in a list
_WHOLE: Final = 1_000_000
_MOST_INPUT: Final = 1 << 20
_MOST_WORDS: Final = 1024
_LONGEST_WORD: Final = 1024
_MOST_WORDS_SHOWN: Final = 10  # of a command
_PATIENCE_MS: Final = 5000  # where `busy-reply-threshold` is 0

_ACTIONS: Final[dict[bytes, bytes]] = {
    b"abort": b"abort",
    b"break": b"break",
    b"continue": b"continue",
    b"eval": b"eval",
    b"help": b"help",
    b"list": b"list",
    b"maxlen": b"maxlen",
    b"next": b"step",
    b"print": b"print",
    b"redis": b"redis",
    b"step": b"step",
    b"trace": b"trace",
    b"whole": b"whole",
}
_ACTIONS.update({word[:1]: action for word, action in _ACTIONS.items()})

_HELP: Final = (
    "Commands of the Lua debugger, of which the letter in brackets is enough:",
    "[h]elp               This text.",
    "[s]tep               Run the current line, then stop again.",
    "[n]ext               The same.",
    "[c]ontinue           Run to the next breakpoint, or to the end.",
    "[l]ist               The lines around the current one.",
    "[l]ist [line]        The lines around another one; 0 is the current one.",
    "[l]ist [line] [ctx]  So many lines before and after it.",
    "[w]hole              All lines.",
    "[p]rint              All variables of the function that is being run.",
    "[p]rint <var>        One variable of it or of its callers, or KEYS, or ARGV.",
    "[b]reak              All breakpoints.",
    "[b]reak <line>       Stop before this line each time.",
    "[b]reak -<line>      Do not stop there any more.",
    "[b]reak 0            Remove all breakpoints.",
    "[t]race              Which function was called from where.",
    "[e]val <code>        Run some Lua, which does not see the script's local variables.",
    "[r]edis <cmd>        Run a command of Redis.",
    "[m]axlen [len]       Cut values and replies to that many bytes; 0 is not at all.",
    "[a]bort              End the script. What it wrote stays in sync mode only.",
    "",
    "In a script:",
    "redis.debug(...)     Show these values.",
    "redis.breakpoint()   Stop before the next line.",
)


class Terminal(Protocol):
    """What a debugged script has of its client."""

    def read(self) -> bytes:
        """What the client says next, once it does; b"" when it has gone."""

    def write(self, data: bytes) -> None:
        """Say something."""


class ForkedTerminal(Terminal, Protocol):
    """That of a script that runs in a copy of the process."""

    def exit(self, failure: BaseException | None) -> None:
        """End that process, once the client has all; `failure` is a bug of ours that ended the script."""


class Dialogue(Protocol):
    """Takes what a client sends in the middle of a command, which is not requests."""

    def feed(self, data: bytes) -> None:
        """Take it; b"" says that the client has gone."""


class ClientTerminal:
    """The client of a script that runs in this process: see `Terminal` and `Dialogue`."""

    def __init__(self, session: Session, scripts: Scripts) -> None:
        self._session = session
        self._scripts = scripts
        self._input = b""
        self._is_gone = False

    def feed(self, data: bytes) -> None:
        self._input += data
        if data == b"":
            self._is_gone = True
        self._scripts.wake_soon()

    def read(self) -> bytes:
        if self._input == b"" and not self._is_gone and not self._scripts.wait_for_input():
            self._is_gone = True  # the engine goes away
        data = self._input
        self._input = b""
        return data

    def write(self, data: bytes) -> None:
        self._session.push(data)
        self._session.engine.mark_pending(self._session)


class Debugger:
    """One session: where to stop, what the client has been told, and what it has said."""

    def __init__(
        self, terminal: Terminal, body: bytes, stopwatch: Callable[[], int], patience_ms: int
    ) -> None:
        """Stops at the first line.

        Args:
            terminal: the client's.
            body: the script.
            stopwatch: monotonic nanoseconds.
            patience_ms: how long a script may run without a stop; 0 for the usual time.
        """
        text = body.rstrip(b"\r\n")
        self.lines = text.split(b"\n") if text else []
        self.terminal = terminal
        self.line = 0
        self.is_stepping = True
        self.wants_stop = False  # by redis.breakpoint
        self.is_late = False  # it was stopped because it took too long
        self.breakpoints: list[int] = []
        self.crash: BaseException | None = None
        # Runs a command as redis.call does, with all that is told of it.
        self.call: Callable[..., object] | None = None
        self._stopwatch = stopwatch
        self._patience_ns = (patience_ms if patience_ms > 0 else _PATIENCE_MS) * 1_000_000
        self._started_ns = stopwatch()
        self._input = b""
        self._log: list[bytes] = []
        self._owes_answer = False  # to what Lua has carried out meanwhile
        self._length = _LENGTH
        self._has_hinted = False

    def services(self) -> dict[bytes, object]:
        """What debugger.lua calls."""
        return {
            b"stops": self.stops,
            b"next_action": self.next_action,
            b"stop_soon": self.stop_soon,
            b"log": self.log,
            b"log_line": self.log_line,
            b"log_debug": self.log_debug,
            b"log_error": self.log_error,
            b"log_value": self.log_value,
        }

    # Called by Lua --------------------------------------------------------------------------------

    def stops(self, is_count: bool, line: int) -> bool:
        """Whether to stop before this line, or in it (`is_count`); if so the client is told."""
        self.line = line
        is_break = self.wants_stop or line in self.breakpoints
        is_late = is_count and not self.is_stepping and not is_break
        if is_late and self._stopwatch() - self._started_ns < self._patience_ns:
            return False
        if not (self.is_stepping or is_break or is_late):
            return False
        reason = b"step over"
        if self.wants_stop:
            reason = b"redis.breakpoint() called"
        elif is_break:
            reason = b"break point"
        elif is_late:
            reason = b"timeout reached, infinite loop?"
        self.is_late = is_late
        self.is_stepping = False
        self.wants_stop = False
        self.log(b"* Stopped at %d, stop reason = %b" % (line, reason))
        self.log_line(line)
        self._owes_answer = True
        return True

    def next_action(self) -> object:
        """What Lua is to do next: None to go on, or a name and an argument."""
        try:
            return self._next_action()
        except BaseException as error:
            self.crash = error
            return b"fail", b"ERR internal error"

    def stop_soon(self) -> None:
        """redis.breakpoint."""
        self.wants_stop = True

    def log(self, line: bytes) -> None:
        """A line for the client, with what it gets next."""
        self._log.append(line)

    def log_line(self, number: int) -> None:
        """A line of the script."""
        text = b"<out of range source code line>"
        if 1 <= number <= len(self.lines):
            text = self.lines[number - 1]
        arrow = b"->" if number == self.line else b"  "
        mark = b"#" if number in self.breakpoints else b" "
        self.log(b"%b%b%-3d %b" % (arrow, mark, number, text))

    def log_debug(self, text: bytes) -> None:
        """redis.debug."""
        self.log(b"<debug> line %d: %b" % (self.line, text))

    def log_error(self, message: bytes) -> None:
        """An error that the script gets, without its `ERR`; told in step mode."""
        if self.is_stepping:
            self.log(b"<error> " + message)

    def log_value(self, prefix: bytes, text: bytes) -> None:
        """A value, cut to the length that the client wants to see."""
        self._log_cut(prefix + text)

    # Called for redis.call ------------------------------------------------------------------------

    def log_request(self, args: list[bytes]) -> None:
        """A command is about to be called; told in step mode."""
        if self.is_stepping:
            words = args[:_MOST_WORDS_SHOWN]
            if len(args) > _MOST_WORDS_SHOWN:
                words.append(b"... (%d more)" % (len(args) - _MOST_WORDS_SHOWN - 1))
            self.log(b"<redis> " + b" ".join(words))

    def log_reply(self, reply: object, resp3: bool) -> None:
        """What it has answered; told in step mode."""
        if not self.is_stepping:
            return
        buffer = ReplyBuffer()
        buffer.reply(reply, resp3)
        wire = b"".join(buffer.take())
        if wire.startswith(b"-"):
            self.log(b"<error> " + wire[: wire.index(CRLF)])
        pieces: list[bytes] = [b"<reply> "]
        _describe(wire, 0, pieces)
        self._log_cut(b"".join(pieces))

    def end(self) -> None:
        """The script is over."""
        self.log(b"<endsession>")
        self._send_log()

    # The client -----------------------------------------------------------------------------------

    def _log_cut(self, line: bytes) -> None:
        if self._length == 0 or len(line) <= self._length:
            self.log(line)
            return
        self.log(line[: self._length] + b" ...")
        if not self._has_hinted:
            self._has_hinted = True
            self.log(b"<hint> The above reply was trimmed. Use 'maxlen 0' to disable trimming.")

    def _send_log(self) -> None:
        lines = [b"+" + line.replace(b"\r", b" ").replace(b"\n", b" ") + CRLF for line in self._log]
        self._log = []
        self._owes_answer = False
        self.terminal.write(b"*%d\r\n%b" % (len(lines), b"".join(lines)))

    def _next_action(self) -> object:
        if self._owes_answer:
            self._send_log()
        while True:
            try:
                words = self._next_words()
            except _InputError as error:
                return b"fail", b"ERR " + error.text
            if words is None:
                return self._client_gone()
            action = _ACTIONS.get(words[0].lower())
            if action in (b"step", b"continue"):
                self.is_stepping = action == b"step"
                self._started_ns = self._stopwatch()
                return None
            if action == b"abort":
                return b"fail", b"ERR script aborted for user request"
            if action in (b"print", b"eval", b"trace"):
                self._owes_answer = True
                if action == b"print" and len(words) != 2:
                    return b"print_all", b""
                return action, b" ".join(words[1:])
            self._carry_out(action, words)
            self._send_log()

    def _carry_out(self, action: bytes | None, words: list[bytes]) -> None:
        if action == b"help":
            for line in _HELP:
                self.log(line.encode())
        elif action == b"list":
            around = _leading_integer(words[1]) if len(words) > 1 else 0
            context = _leading_integer(words[2]) if len(words) > 2 else _CONTEXT
            self._list(around if around > 0 else self.line, context)
        elif action == b"whole":
            self._list(1, _WHOLE)
        elif action == b"break":
            self._break(words)
        elif action == b"maxlen":
            self._set_length(words)
        elif action == b"redis" and len(words) > 1:
            self._redis(words)
        else:
            self.log(b"<error> Unknown Redis Lua debugger command or wrong number of arguments.")

    def _list(self, around: int, context: int) -> None:
        for number in range(1, len(self.lines) + 1):
            if abs(around - number) <= context:
                self.log_line(number)

    def _break(self, words: list[bytes]) -> None:
        points = self.breakpoints
        if len(words) == 1:
            if not points:
                self.log(b"No breakpoints set. Use 'b <line>' to add one.")
                return
            self.log(b"%d breakpoints set:" % len(points))
            for number in points:
                self.log_line(number)
        for word in words[1:]:
            line = parse_integer(word)
            if line is None:
                self.log(b"Invalid argument:'" + word + b"'")
            elif line == 0:
                points.clear()
                self.log(b"All breakpoints removed.")
            elif line < 0:
                if -line in points:
                    points.remove(-line)
                    self.log(b"Breakpoint removed.")
                else:
                    self.log(b"No breakpoint in the specified line.")
            elif len(points) == _MOST_BREAKPOINTS:
                self.log(b"Too many breakpoints set.")
            elif line > len(self.lines) or line in points:
                self.log(b"Wrong line number.")
            else:
                points.append(line)
                self._list(line, 1)

    def _set_length(self, words: list[bytes]) -> None:
        if len(words) == 2:
            self._has_hinted = True  # who knows this command needs no hint
            length = _leading_integer(words[1])
            self._length = max(length, _LEAST_LENGTH) if length != 0 else 0
        if self._length > 0:
            self.log(b"<value> replies are truncated at %d bytes." % self._length)
        else:
            self.log(b"<value> replies are unlimited.")

    def _redis(self, words: list[bytes]) -> None:
        assert self.call is not None
        self.is_stepping = True  # so that it is told of
        self.call(*words[1:])
        self.is_stepping = False

    def _client_gone(self) -> object:
        """The script goes on without stops, but not for ever."""
        self.breakpoints.clear()
        self._started_ns = self._stopwatch()
        if self.is_late:
            return b"fail", b"ERR timeout during Lua debugging with client closing connection"
        return None

    def _next_words(self) -> list[bytes] | None:
        """The words of the next command; None when the client has gone.

        Raises:
            _InputError: what it says is no command, or has no end.
        """
        while True:
            words = _parse(self._input)
            if words is not None:
                self._input = b""  # what came behind it is not looked at, as there
                return words
            data = self.terminal.read()
            if data == b"":
                return None
            self._input += data
            if len(self._input) > _MOST_INPUT:
                self._input = b""
                raise _InputError(b"max client buffer reached")


class _InputError(Exception):
    def __init__(self, text: bytes) -> None:
        super().__init__(text.decode())
        self.text = text


def _leading_integer(text: bytes) -> int:
    """As C's atoi reads it."""
    text = text.lstrip()
    sign = text[:1] if text[:1] in (b"-", b"+") else b""
    digits = text[len(sign) :]
    end = 0
    while digits[end : end + 1].isdigit():
        end += 1
    number = int(digits[:end]) if end > 0 else 0
    return -number if sign == b"-" else number


def _parse(data: bytes) -> list[bytes] | None:
    """The words of a command, an array of bulk strings that are not empty; None when it is not whole.

    Raises:
        _InputError: it is no such thing.
    """
    if data == b"":
        return None
    at = data.find(b"*")
    if at < 0:
        raise _InputError(b"protocol error")
    end = data.find(CRLF, at)
    if end < 0:
        return None
    count = _leading_integer(data[at + 1 : end])
    if not 0 < count <= _MOST_WORDS:
        raise _InputError(b"protocol error")
    words: list[bytes] = []
    at = end + 2
    while len(words) < count:
        if at == len(data):
            return None
        if data[at : at + 1] != b"$":
            raise _InputError(b"protocol error")
        end = data.find(CRLF, at)
        if end < 0:
            return None
        length = _leading_integer(data[at + 1 : end])
        if not 0 < length <= _LONGEST_WORD:
            raise _InputError(b"protocol error")
        at = end + 2 + length
        if at + 2 > len(data):
            return None
        if data[at : at + 2] != CRLF:
            raise _InputError(b"protocol error")
        words.append(data[end + 2 : at])
        at += 2
    return words


_BRACKETS: Final[dict[bytes, tuple[bytes, bytes]]] = {
    b"*": (b"[", b"]"),
    b"~": (b"~(", b")"),
    b"%": (b"{", b"}"),
}


def _describe(wire: bytes, at: int, pieces: list[bytes]) -> int:
    """Append what the reply at `at` looks like to a person; where the next one begins."""
    end = wire.index(CRLF, at)
    kind = wire[at : at + 1]
    text = wire[at + 1 : end]
    following = end + 2
    if kind in (b":", b"("):
        pieces.append(text)
    elif kind in (b"+", b"-"):
        pieces.append(quote(wire[at:end]))
    elif kind == b"_":
        pieces.append(b"(null)")
    elif kind == b"#":
        pieces.append(b"#true" if text == b"t" else b"#false")
    elif kind == b",":
        pieces.append(b"(double) " + text)
    elif text == b"-1":
        pieces.append(b"NULL")
    elif kind in (b"$", b"="):
        following += int(text)
        pieces.append(quote(wire[end + 2 : following]))
        following += 2
    elif kind in (b"*", b"~", b"%"):
        opening, closing = _BRACKETS[kind]
        pieces.append(opening)
        for number in range(int(text)):
            if number > 0:
                pieces.append(b",")
            following = _describe(wire, following, pieces)
            if kind == b"%":
                pieces.append(b" => ")
                following = _describe(wire, following, pieces)
        pieces.append(closing)
    return following
