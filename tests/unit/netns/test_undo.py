"""Steps and their undo, and signals that arrive in the middle of one."""

from __future__ import annotations

import signal

import pytest

from netns.errors import TopologyError
from netns.undo import Steps, UndoStack, held_signals


def test_undo_runs_last_first_and_goes_on_after_a_failure() -> None:
    stack, log = UndoStack(), []

    def fail() -> None:
        log.append("b")
        raise OSError(16, "Device or resource busy")

    stack.push("a", lambda: log.append("a"))
    stack.push("b", fail)
    stack.push("c", lambda: log.append("c"))
    assert stack.run() == (["c", "a"], ["b (Device or resource busy)"])
    assert log == ["c", "b", "a"]
    assert stack.run() == ([], [])


def test_steps_failing_step_is_named_with_what_was_undone() -> None:
    log: list[str] = []

    def fail() -> None:
        raise OSError(1, "Operation not permitted")

    with pytest.raises(TopologyError) as caught:
        with Steps() as steps:
            assert steps.take("make a", lambda: "A", "a", log.append) == "A"
            steps.take("make b", lambda: "B", "b", log.append)
            steps.take("make c", fail, "c", lambda _: log.append("never"))
    assert log == ["B", "A"]
    assert str(caught.value) == "cannot make c: Operation not permitted; undone: b, a"


def test_steps_error_of_ours_keeps_its_class_and_learns_what_was_undone() -> None:
    class Special(TopologyError):
        pass

    def fail() -> None:
        raise Special("do it", "no")

    with pytest.raises(Special) as caught:
        with Steps() as steps:
            steps.take("make a", lambda: None, "a", lambda _: None)
            steps.take("make b", fail)
    assert caught.value.undone == ["a"]


def test_steps_without_an_error_undo_nothing() -> None:
    log: list[str] = []
    with Steps() as steps:
        steps.take("make a", lambda: "A", "a", log.append)
    assert log == []
    assert len(steps.undo) == 1


def test_steps_interrupt_inside_a_step_waits_for_it_and_undoes_it() -> None:
    log: list[str] = []

    def step() -> str:
        signal.raise_signal(signal.SIGINT)
        log.append("whole")
        return "A"

    with pytest.raises(KeyboardInterrupt):
        with Steps() as steps:
            steps.take("make a", step, "a", log.append)
            log.append("not reached")
    assert log == ["whole", "A"]


def test_undo_is_not_torn_by_a_signal() -> None:
    stack, log = UndoStack(), []
    stack.push("a", lambda: log.append("a"))
    stack.push("b", lambda: signal.raise_signal(signal.SIGINT))
    with pytest.raises(KeyboardInterrupt):
        stack.run()
    assert log == ["a"]


def test_held_signal_without_a_handler_becomes_system_exit() -> None:
    assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL
    with pytest.raises(SystemExit) as caught:
        with held_signals() as arrived:
            signal.raise_signal(signal.SIGTERM)
            assert arrived == [signal.SIGTERM]
    assert caught.value.code == 128 + signal.SIGTERM
    assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL


def test_held_signal_that_is_ignored_stays_ignored() -> None:
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with held_signals() as arrived:
            signal.raise_signal(signal.SIGHUP)
        assert arrived == []
    finally:
        signal.signal(signal.SIGHUP, before)


def test_held_signals_nested_reach_the_outer_holder_first() -> None:
    with pytest.raises(KeyboardInterrupt):
        with held_signals() as outer:
            with held_signals():
                signal.raise_signal(signal.SIGINT)
            assert outer == [signal.SIGINT]
