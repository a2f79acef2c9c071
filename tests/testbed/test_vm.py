# SPDX-License-Identifier: GPL-2.0-only
"""testbed/vm: a command's output and status come back as they are, whatever
happens is a clear result, and nothing hangs."""

import contextlib
import os
import pty
import select
import signal
import subprocess
import time

import pytest

from conftest import TOP, VM


@pytest.mark.parametrize("status", [0, 1, 2, 77, 124, 125, 126, 127, 200, 255])
def test_exit_status(vm, status):
    assert vm.sh(f"exit {status}").returncode == status


def test_signal(vm):
    assert vm.sh("kill -9 $$").returncode == 128 + 9
    assert vm.sh("kill -SEGV $$").returncode == 128 + 11


def test_no_such_command(vm):
    r = vm.exec("no-such-command")
    assert r.returncode == 127
    assert "no-such-command" in r.stderr and "No such file" in r.stderr


def test_not_executable(vm):
    r = vm.exec("/etc/passwd")
    assert r.returncode == 126
    assert "Permission denied" in r.stderr


def test_streams_are_kept_apart(vm):
    r = vm.sh("echo out; echo err >&2; printf unterminated")
    assert (r.stdout, r.stderr) == ("out\nunterminated", "err\n")


def test_no_output(vm):
    r = vm.exec("true")
    assert (r.returncode, r.stdout, r.stderr) == (0, "", "")


def test_ten_megabytes_of_binary_output(vm):
    r = vm.sh("head -c 10485760 /dev/urandom >f; md5sum f >&2; cat f", text=False)
    assert len(r.stdout) == 10485760
    import hashlib
    assert r.stderr.split()[0].decode() == hashlib.md5(r.stdout).hexdigest()


def test_binary_input(vm):
    data = bytes(range(256)) * 4096
    r = vm.run("exec", "md5sum", text=False, stdin=None, input=data)
    import hashlib
    assert r.stdout.split()[0].decode() == hashlib.md5(data).hexdigest()


def test_output_is_streamed(vm):
    p = subprocess.Popen([VM, "exec", "--", "sh", "-c", "echo first; sleep 8; echo second"],
                         stdin=subprocess.DEVNULL, stdout=subprocess.PIPE)
    first = p.stdout.readline()
    assert first == b"first\n"
    assert p.poll() is None
    assert p.stdout.readline() == b"second\n"
    assert p.wait(60) == 0


def test_empty_working_directory_with_copies(vm, tmp_path):
    d = tmp_path / "folder"
    d.mkdir()
    (d / "script").write_text("#!/bin/sh\necho ran\n")
    (d / "script").chmod(0o750)
    (tmp_path / "a file").write_text("x")
    r = vm.exec("sh", "-c", "ls -A; stat -c %a folder/script; folder/script; cat 'a file'",
                into=[d, tmp_path / "a file"])
    assert r.returncode == 0, r.stderr
    assert r.stdout == "a file\nfolder\n750\nran\nx"
    assert vm.sh("ls -A").stdout == ""


def test_missing_input_file(vm):
    r = vm.exec("true", into=["/no/such/file"])
    assert r.returncode == 2
    assert "/no/such/file" in r.stderr


def test_arguments_are_kept(vm):
    r = vm.exec("printf", "%s|", "a b", "", "$HOME", "ä\n")
    assert r.stdout == "a b||$HOME|ä\n|"


def test_time_over(vm):
    began = time.monotonic()
    r = vm.exec("sleep", "100000", timeout=3)
    assert r.returncode == 124
    assert "time is over" in r.stderr and "sleep" in r.stderr
    # what it left is killed, and the machine is of use at once
    assert vm.sh("sleep 1; pgrep -x sleep | wc -l").stdout.strip() in ("0", "1")
    assert time.monotonic() - began < 120


def test_background_process_does_not_hold_the_session(vm):
    r = vm.sh("sleep 100000 & echo started")
    assert (r.returncode, r.stdout) == (0, "started\n")


def test_dom0(vm):
    r = vm.dom0("xl list; exit 7")
    assert r.returncode == 7
    assert "guest" in r.stdout and "Domain-0" in r.stdout


def test_usage_errors():
    for args, text in (([], "usage"), (["exec"], "CMD"), (["frobnicate"], "invalid choice"),
                       (["exec", "--timeout", "0", "--", "true"], "above 0"),
                       (["up", "--config", "nowhere"], "no configuration 'nowhere'")):
        r = subprocess.run([VM, *args], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        assert r.returncode == 2, (args, r.stderr)
        assert text in r.stderr


@pytest.mark.parametrize("words", [["status"], ["log"]])
def test_a_reader_that_goes_away(vm, words):
    """It is no news to whoever had it go: testbed/vm status | head -n 1."""
    reader, writer = os.pipe()
    os.close(reader)
    r = subprocess.run([VM, *words], stdout=writer, stderr=subprocess.PIPE)
    os.close(writer)
    assert (r.returncode, r.stderr) == (128 + signal.SIGPIPE, b"")


def test_shell_needs_a_terminal(vm):
    r = vm.run("shell")
    assert r.returncode == 2
    assert "terminal" in r.stderr


def test_shell_on_a_terminal():
    pid, terminal = pty.fork()
    if pid == 0:
        os.execv(VM, [VM, "shell"])
    # what is typed before the shell is there is not lost
    os.write(terminal, b"tty; exit 5\n")
    shown, deadline = b"", time.monotonic() + 120
    with contextlib.suppress(OSError):  # EIO: the other side has closed it
        while time.monotonic() < deadline:
            if select.select([terminal], [], [], 1)[0]:
                shown += os.read(terminal, 4096)
    os.close(terminal)
    assert time.monotonic() < deadline, shown
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 5, shown
    assert b"/dev/pts/" in shown


def test_two_at_once(vm):
    """The second waits for the first."""
    ps = [subprocess.Popen([VM, "exec", "--", "sh", "-c", f"sleep 2; echo {i}"],
                           stdin=subprocess.DEVNULL,
                           stdout=subprocess.PIPE) for i in range(2)]
    assert [p.communicate(timeout=120)[0] for p in ps] == [b"0\n", b"1\n"]


@pytest.mark.provokes(r"sysrq|Kernel panic|Call Trace|panic|crashed|CPU: "
                      r".* PID|</?TASK>|BUG|domain_crash")
def test_a_guest_that_panics(vm):
    """A result that names the cause, and a machine that is there again for the next."""
    r = vm.sh("echo 1 >/proc/sys/kernel/sysrq; echo c >/proc/sysrq-trigger; sleep 1000",
              timeout=120)
    assert r.returncode == 125, (r.stdout, r.stderr)
    assert "panic" in r.stderr.lower() or "crash" in r.stderr.lower()
    began = time.monotonic()
    assert vm.exec("true").returncode == 0
    assert time.monotonic() - began < 60


def test_restored_from_its_snapshot(vm):
    """Down and up again is the machine of the snapshot: clean, and quickly there."""
    vm.good("echo x >/tmp/left-behind")
    vm.down()
    began = time.monotonic()
    assert vm.exec("test", "-e", "/tmp/left-behind").returncode == 1
    assert time.monotonic() - began < 60
    # and the virtual hardware is in order: time passes, timers and interrupts work
    began, ended = map(float, vm.good("cut -d' ' -f1 /proc/uptime; sleep 0.5; "
                                      "cut -d' ' -f1 /proc/uptime").split())
    assert 0.49 <= ended - began < 30


def test_apicv_and_posted_interrupts_are_on(vm):
    log = vm.boot_log()
    for feature in ("Virtual Interrupt Delivery", "Posted Interrupt Processing",
                    "Page Modification Logging"):
        assert feature in log
    assert "apicv=0" not in log


def test_nothing_of_this_machine_is_needed(vm):
    """No /dev/kvm: Bochs is the only hardware."""
    pid = vm.run("status").stdout
    assert "running" in pid
    for line in pid.splitlines():
        if line.startswith("default"):
            fds = os.listdir(f"/proc/{line.split()[-1]}/fd")
            targets = [os.readlink(f"/proc/{line.split()[-1]}/fd/{f}") for f in fds]
            assert not any("kvm" in t for t in targets)


def test_in_root_runs_in_the_guests_distribution():
    out = subprocess.run([TOP / "testbed" / "in-root", "sh", "-c",
                          "pwd; . /etc/os-release; echo $VERSION_CODENAME"],
                         stdout=subprocess.PIPE, text=True, check=True).stdout
    assert out.split() == ["/ooh", "trixie"]
