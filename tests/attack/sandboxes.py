# SPDX-License-Identifier: LGPL-2.1-or-later
"""Where probes run: without a sandbox, in usbox as it is configured, in others; and what they came through there."""
import os
import pathlib
import re
import subprocess
import sys
import termios

import probes
from world import World, libc

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "integration"))
from pty_driver import Pty  # noqa: E402

PODMAN_IMAGE = "localhost/usbox-attack"
PATH = "/usr/local/bin:/usr/bin:/bin:/usr/sbin:/sbin"


class Tools:
    """The programs of a build."""

    def __init__(self, build, usbox):
        self.usbox = str(usbox)
        self.probe = build / "tests" / "attack" / "probe"
        self.helpers = [h for h in build.glob("*/usbox-*") if h.is_file() and os.access(h, os.X_OK)]

    def libexec(self, world):
        path = world.top / "libexec"
        if not path.exists():
            path.mkdir()
            for helper in self.helpers:
                (path / helper.name).symlink_to(helper)
        return str(path)


class Sandbox:
    """One way to run probes; title heads its column, what is its command line in words."""
    title = what = ""

    def __init__(self, tools):
        self.tools = tools

    def argv(self, world, terminal):
        raise NotImplementedError

    def environment(self, world):
        return {"PATH": PATH, "HOME": os.environ["HOME"], "USER": os.environ.get("USER", ""), "LANG": "C.UTF-8", "TERM": "xterm",
                "USBOX_LIBEXECDIR": self.tools.libexec(world), "G_DEBUG": "fatal-criticals", **world.environment()}

    def begin(self, world):
        """A box that runs meanwhile, for the probes at what is a box's on the host."""
        self.usbox(world, "run", "--detach", "--network=none", "--name=bystander", "--", "sleep", "1000")

    def end(self, world):
        self.usbox(world, "rm", "--force", "bystander")

    def usbox(self, world, *argv):
        done = subprocess.run([self.tools.usbox, *argv], env=self.environment(world), cwd=world.dir, stdin=subprocess.DEVNULL, capture_output=True, text=True,
                              timeout=120, check=False)
        if done.returncode != 0:
            raise RuntimeError(f"usbox {' '.join(argv)}: {done.stderr}")


class Nothing(Sandbox):
    title, what = "nothing", "the plain user"

    def argv(self, world, terminal):
        return ["./probe", *world.targets(sandboxed=False)]


class Usbox(Sandbox):
    """What it changes is kept until the world ends: it is looked through, too."""
    pattern = "**/.ssh"

    def __init__(self, tools, title, *options):
        super().__init__(tools)
        self.title, self.options = title, options
        self.what = " ".join(["usbox run", *options])

    def argv(self, world, terminal):
        return [self.tools.usbox, "run", *self.hide(world), *self.options, "--", "./probe", *world.targets(sandboxed=True, gateway="--network=host" not in self.options)]

    def hide(self, world):
        """What --hide is asked for: all else is as it is by default."""
        return [word for what in (self.pattern, *world.hidden) for word in ("--hide", str(what))]


class UsboxByKernel(Usbox):
    """With the kernel's overlay, which knows no patterns."""
    pattern = "project/.ssh"


class Pod(Usbox):
    """Beside another box of its pod."""

    def begin(self, world):
        self.usbox(world, "pod", "create", "attacked")
        self.usbox(world, "run", "--pod=attacked", "--detach", "--name=bystander", "--", "sleep", "1000")

    def end(self, world):
        super().end(world)
        self.usbox(world, "pod", "rm", "--force", "attacked")


class Exec(Usbox):
    """options: of the box that it is executed in."""

    def __init__(self, tools, title, *options):
        super().__init__(tools, title, *options)
        self.what = "usbox exec"

    def begin(self, world):
        self.usbox(world, "run", "--detach", "--name=bystander", *self.hide(world), *self.options, "--", "sleep", "1000")

    def argv(self, world, terminal):
        return [self.tools.usbox, "exec", *(["--tty"] if terminal else []), "bystander", "./probe", *world.targets(sandboxed=True)]


class Bubblewrap(Sandbox):
    program = "bwrap"
    title, what = "bwrap", "bwrap --unshare-all --ro-bind / / --proc /proc --dev /dev"

    def argv(self, world, terminal):
        return [*self.what.split(), "./probe", *world.targets(sandboxed=True)]


class BubblewrapWithCare(Sandbox):
    program = "bwrap"
    title = "bwrap, with care"
    what = ("bwrap --unshare-all --die-with-parent --new-session --clearenv --setenv PATH /usr/bin:/bin --cap-drop ALL --ro-bind /usr /usr "
            "--symlink usr/bin /bin --symlink usr/lib /lib --symlink usr/lib64 /lib64 --ro-bind /etc /etc --proc /proc --dev /dev --tmpfs /tmp "
            "--ro-bind . .")

    def argv(self, world, terminal):
        return [*self.what.split()[:-3], "--ro-bind", str(world.dir), str(world.dir), "--chdir", str(world.dir), "./probe", *world.targets(sandboxed=True)]


class Podman(Sandbox):
    program = "podman"
    command = ["podman"]  # and its options, where the machine asks for some
    title, what = "podman", "podman run --interactive --volume .:.:O, an image of Debian"

    def begin(self, world):
        if subprocess.run([*self.command, "image", "exists", PODMAN_IMAGE], check=False).returncode != 0:
            tree = ["mmdebstrap", "--quiet", "--mode=unshare", "--variant=minbase", "bookworm", "-"]
            with subprocess.Popen(tree, stdout=subprocess.PIPE) as made:
                subprocess.run([*self.command, "import", "-", PODMAN_IMAGE], stdin=made.stdout, check=True)
        super().begin(world)

    def environment(self, world):
        # Its own files stay where they are from run to run.
        env = super().environment(world)
        return {**env, "XDG_DATA_HOME": os.environ["HOME"] + "/.local/share", "XDG_CONFIG_HOME": os.environ["HOME"] + "/.config"}

    def argv(self, world, terminal):
        return [*self.command, "run", "--rm", "--interactive", *(["--tty"] if terminal else []), "--env=USBOX_ATTACK_ROOT_OF_A_BOX=1",
                f"--volume={world.dir}:{world.dir}:O", f"--workdir={world.dir}", PODMAN_IMAGE, "./probe", *world.targets(sandboxed=True)]


def all_sandboxes(tools):
    """Name → Sandbox, in the order of the table. A new way to run a box is a row here."""
    return {"nothing": Nothing(tools),
            "default": Usbox(tools, "default"),
            "root": Usbox(tools, "root", "--user=root"),
            "nested": Usbox(tools, "nested", "--nested"),
            "root-nested": Usbox(tools, "root, nested", "--user=root", "--nested"),
            "host": Usbox(tools, "host network", "--network=host"),
            "kernel": UsboxByKernel(tools, "kernel overlay", "--overlay=kernel"),
            "pod": Pod(tools, "pod", "--pod=attacked"),
            "pod-root": Pod(tools, "pod, root", "--pod=attacked", "--user=root"),
            "exec": Exec(tools, "exec"),
            "bwrap": Bubblewrap(tools),
            "bwrap-with-care": BubblewrapWithCare(tools),
            "podman": Podman(tools)}


PEERS = ("bwrap", "bwrap-with-care", "podman")
OURS = ("default", "root", "nested", "root-nested", "host", "kernel", "pod", "pod-root", "exec")


def run_on_pipes(argv, world, env):
    with open(world.stdin, encoding="utf-8") as stdin, open(world.stderr, "a", encoding="utf-8") as stderr:
        for fd in world.leaked:
            os.set_inheritable(fd, True)
        proc = subprocess.run(argv, stdin=stdin, stdout=subprocess.PIPE, stderr=stderr, cwd=world.dir, env=env, close_fds=False, timeout=300, check=False)
        for fd in world.leaked:
            os.set_inheritable(fd, False)
    return proc.returncode, proc.stdout.decode("utf-8", "replace")


def typed(tty):
    """What now waits to be read by who owns the terminal."""
    settings = termios.tcgetattr(tty.slave)
    settings[3] &= ~termios.ICANON
    termios.tcsetattr(tty.slave, termios.TCSANOW, settings)
    os.set_blocking(tty.slave, False)
    try:
        return os.read(tty.slave, 64)
    except BlockingIOError:
        return b""


class Outcome:
    """What one sandbox let through: name → what was said; and all that was said."""

    def __init__(self, sandbox, world, names=None):
        self.said, self.reached, self.world = {}, {}, world
        wanted = [p for p in probes.PROBES.values() if names is None or p.name in names]
        sandbox.begin(world)
        try:
            env = sandbox.environment(world)
            plain = [p.name for p in wanted if p.seen != "terminal" and p.proven != "own"]
            own = [p.name for p in wanted if p.proven == "own"]
            terminal = [p.name for p in wanted if p.seen == "terminal"]
            # Root of a namespace of its own is what an ordinary user without a sandbox has to be shown as.
            before_own = ["--own"] if isinstance(sandbox, Nothing) else []
            self.run(sandbox.argv(world, False), plain + before_own + own, env)
            # Before the next run, with whose end goes what the box of this one has changed.
            self.judge([p for p in wanted if p.name in plain + own])
            for name in terminal:
                self.run_on_terminal(sandbox, name, env)
            self.judge([p for p in wanted if p.name in terminal])
        finally:
            sandbox.end(world)

    def run(self, argv, names, env):
        if not names or names[-1] == "--own":
            names = [n for n in names if n != "--own"]
        if not names:
            return
        status, text = run_on_pipes([*argv, *names], self.world, env)
        self.said.update(line.split(" ", 1) for line in text.splitlines() if " " in line)
        missing = [n for n in names if n != "--own" and n not in self.said]
        if status != 0 or missing:
            raise RuntimeError(f"{argv[:6]}: status {status}, no word of {missing[:5]}: {text[-300:]} {self.world.stderr.read_text(errors='replace')[-600:]}")

    def run_on_terminal(self, sandbox, name, env):
        with Pty([*sandbox.argv(self.world, True), name], env, self.world.dir) as tty:
            tty.wait(120)
            # The terminal may echo what was typed, before it.
            line = re.search(rf"\b{name} (.*)|x{name} (.*)", tty.seen.decode("utf-8", "replace"))
            if not line:
                raise RuntimeError(f"{name} in {sandbox.what}: {tty.seen!r}")
            waiting = typed(tty)
            self.said[name] = f"typed {waiting!r}" if waiting else (line[1] or line[2]).strip()

    def judge(self, some):
        self.reached.update((p.name, self.said[p.name]) for p in some if self.came_through(p))

    def came_through(self, probe):
        said = self.said[probe.name]
        if probe.seen == "terminal":
            return said.startswith("typed ")
        if probe.seen == "host":
            return self.world.changed(probe.name)
        if probe.seen == "secret":
            return any(secret in said for secret in self.world.secrets)
        return said.split(" ")[0] == "ok"


def attack(sandbox, work, names=None):
    """Runs the probes in it, in a World of their own; the Outcome."""
    libc.prctl(36, 1, 0, 0, 0)  # PR_SET_CHILD_SUBREAPER: what a box leaves behind comes to us
    world = World(pathlib.Path(work), pathlib.Path(os.environ["HOME"]), sandbox.tools.probe)
    try:
        return Outcome(sandbox, world, names)
    finally:
        world.close()
