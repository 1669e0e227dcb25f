"""How fast the sender is on a link that loses, by the models of TCP; and that it sends nothing for nothing.

Too slow is a stall or a timeout too many. Too fast is a reduction that was skipped: unfair to everybody else.
"""

from __future__ import annotations

import pytest

from appliance.stack.timebase import MILLISECOND, SECOND
from tests.support.simulation import LinkFaults, Simulation, Transfer

SMSS = 1448


class LossyForth(Simulation):
    """Data (from stack 0) meet the faults, acknowledgments only the delay. Frames stay in their order."""

    def _transmit(self, side: int, frame: bytes) -> None:
        if side == 0:
            super()._transmit(side, frame)
        else:
            self._arrive_at(self.now + self.link.delay_us, side, frame)


def send_for(sim: Simulation, seconds: int) -> tuple[float, dict[str, int]]:
    """Bytes per second that arrive, and the sender's counters."""
    client, server = sim.connect()
    began = sim.now
    Transfer(sim, client, bytes(50_000_000), write_chunk=65_536)
    sink = Transfer(sim, server, b"")
    sim.run(until=lambda: sim.now >= began + seconds * SECOND)
    return len(sink.received) / seconds, sim.stacks[0].counters.as_dict()


@pytest.mark.parametrize("loss", [0.01, 0.03])
@pytest.mark.parametrize("seed", [1, 2])
def test_sim_random_loss_goodput_is_what_the_model_says(loss: float, seed: int) -> None:
    """Mathis' formula for one reduction per loss event; ours has RFC 9438's factors, which come near it."""
    rtt_ms = 20
    sim = LossyForth(seed, LinkFaults(loss=loss, delay_us=rtt_ms * MILLISECOND // 2, faults_arp=False))
    goodput, counters = send_for(sim, 10)
    model = SMSS * 1.22 / (rtt_ms / 1000 * loss**0.5)
    assert 0.75 * model < goodput < 1.6 * model, goodput / model
    # In order, so nothing that was sent again had arrived, and SACK tells all of it within a round trip.
    assert counters["spurious_recoveries"] == 0
    assert counters["segments_retransmitted"] <= sim.lost
    assert counters["retransmission_timeouts"] <= 2
