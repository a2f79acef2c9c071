# SPDX-License-Identifier: GPL-2.0-only
"""testbed/vm's side of a conversation, with agents that are made up."""

import socket
import struct
import threading
import time

import pytest

from testbed.session import Session, TimedOut


class Machine:
    parts = {0: "dom0"}

    def __init__(self, folder):
        self.dir = folder

    def check(self, deadline, why):
        if time.monotonic() > deadline:
            raise TimedOut(why)


@pytest.fixture
def agent(tmp_path):
    """Has an agent answer each connection by the next of some functions."""
    listening = socket.socket(socket.AF_UNIX)
    listening.bind(f"{tmp_path}/chan0")
    listening.listen(1)
    threads = []

    def start(*answers):
        def serve():
            for answer in answers:
                peer, _ = listening.accept()
                with peer:
                    assert peer.recv(5) == b"P\0\0\0\0"
                    answer(peer)

        threads.append(threading.Thread(target=serve, daemon=True))
        threads[0].start()
        return Machine(tmp_path)

    yield start
    listening.close()
    for thread in threads:
        thread.join(10)


def pong(peer):
    peer.sendall(b"P\0\0\0\0")


def ends_another_session(peer):
    """As after a restore: the command that made the snapshot ends, and the ping is thrown away."""
    peer.sendall(b"O\1\0\0\0x" + b"X" + struct.pack("<II", 4, 0))
    while peer.recv(100):
        pass


def test_an_agent_that_answers(agent):
    with Session(agent(pong), 0, time.monotonic() + 20):
        pass


def test_the_end_of_a_session_that_was_in_the_snapshot(agent):
    with Session(agent(ends_another_session, pong), 0, time.monotonic() + 20):
        pass


def test_an_agent_that_does_not_answer(agent):
    def silent(peer):
        peer.recv(1)

    machine = agent(silent)
    with pytest.raises(TimedOut, match="the agent does not answer"):
        with Session(machine, 0, time.monotonic() + 1):
            pass
