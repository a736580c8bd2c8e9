"""Plugin for flux run, submit, alloc, batch and bulksubmit: the option --tree-bcast.

Runs in Flux's own interpreter, which may be older than what flux_tree needs and has none of its
packages: only the standard library and flux are imported here.
"""

import importlib.machinery
import importlib.util
import json
import os
import re
import subprocess

import flux
from flux.cli.plugin import CLIPlugin

#: Where this file really stands, also if it is a link in Flux's own folder.
TOP = os.path.dirname(os.path.dirname(os.path.realpath(__file__)))
RC_NAME = "tree-bcast.lua"
RC_FILE = os.path.join(TOP, "shell", RC_NAME)
PLUGIN = os.path.join(TOP, "_plugin.abi3.so")
#: Holds the name of the Python interpreter that has flux_tree, after `flux-tree install`.
PYTHON_FILE = os.path.join(TOP, "python")

OPTION = "tree-bcast"
#: How the name of what a registry has begins.
REGISTRY = ("oci://", "oci+http://")
SETOPT = re.compile(r"tree-bcast(?:\.(?P<key>[^=]+))?(?:=(?P<value>.*))?", re.S)


class TreeBcastPlugin(CLIPlugin):
    """--tree-bcast=STRATEGY[,KEY=VALUE...]

    Before any task starts, a file, a directory or an archive of the first node
    stands on every node of the job. STRATEGY says who passes it on to whom; it
    may be left out:

      flux run -N16 --tree-bcast=two-tree,file=/data/model ./app
      flux run -N16 --tree-bcast=file=model,destination=/local/model ./app
      flux run -N16 --tree-bcast=my_tree.py:MyTree ./app

    Without file=, the archive "main" travels, which 'flux archive create' made.
    It goes to FLUX_JOB_TMPDIR if destination= does not say otherwise (flux alloc
    and flux batch need it). The other keys, and what each of them means, are in
    docs/flux.md of flux-tree; 'flux tree strategies' lists the strategies.

    Each key may be given as -o tree-bcast.KEY=VALUE too. A job with this option
    never starts without its data: where the plugin is missing, it fails.
    """

    def __init__(self, prog, version=None):
        super().__init__(prog, prefix=None)
        self.add_option(
            "--tree-bcast",
            metavar="STRATEGY[,KEY=VALUE..]",
            help="Broadcast a file, directory or archive to all nodes before tasks start",
        )

    def preinit(self, args):
        """Let -o tree-bcast=STRATEGY stand beside -o tree-bcast.KEY=VALUE.

        Flux itself keeps only the last of them, or stops with a message about strings.
        """
        # what flux bulksubmit and --cc pass on is only what was set on args itself
        args.tree_bcast = getattr(args, "tree_bcast", None)
        setopt = getattr(args, "setopt", None) or []
        mine = [m for m in map(SETOPT.fullmatch, setopt) if m]
        if len(mine) > 1 and any(m.group("key") is None for m in mine):
            others = [s for s in setopt if not SETOPT.fullmatch(s)]
            args.setopt = others + [
                "{}.{}={}".format(OPTION, *item) for m in mine for item in _items(m)
            ]

    def modify_jobspec(self, args, jobspec):
        """Complete the option, and make sure that it is not ignored."""
        options = jobspec.attributes["system"].get("shell", {}).get("options", {})
        given = getattr(args, "tree_bcast", None)
        if OPTION not in options and given is None:
            return
        option = options.get(OPTION)
        if given is not None:
            option = _merge({} if option is None else _as_dict(option), _words(given))
        _refuse_other_rc(options, "initrc", None)
        _refuse_other_rc(options, "userrc", jobspec.cwd)
        jobspec.setattr_shell_option(OPTION, self._complete(option, jobspec))
        if "userrc" not in options:
            # a missing userrc ends the job, so nothing is left to the environment of the job
            jobspec.setattr_shell_option("userrc", _glob_escape(RC_FILE))

    def _complete(self, option, jobspec):
        """Return the option as it goes into the jobspec, or raise ValueError."""
        if self.prog in ("alloc", "batch") and "destination" not in _as_dict(option):
            raise ValueError(
                f"option tree-bcast: programs in flux {self.prog} do not see the FLUX_JOB_TMPDIR"
                " of the job that they run in, so say destination="
            )
        option = _absolute(option, jobspec.cwd or os.getcwd())
        keys = _as_dict(option)
        if str(keys.get("file")).startswith(REGISTRY) and "python" not in keys and _python():
            # the first shell needs it, and may find nothing in the environment of the job
            option = dict(keys, python=_python())
        return _checked(option, _node_count(jobspec))


def _items(match):
    """Return keys and values of one -o tree-bcast..., as texts."""
    key, value = match.group("key"), match.group("value")
    if key is not None:
        return [(key, "1" if value is None else value)]
    try:
        whole = json.loads(value) if value else {}
    except ValueError:
        whole = value
    if isinstance(whole, dict):
        return [(k, v if isinstance(v, str) else json.dumps(v)) for k, v in whole.items()]
    return list(_words(value).items())


def _words(text):
    """Read "STRATEGY,key=value,flag" as the shell plugin does."""
    found = {}  # type: dict[str, str]
    for i, word in enumerate(text.split(",")):
        key, equals, value = word.partition("=")
        if i == 0 and not equals:
            key, value = "strategy", word
            if not word:
                continue
        elif not equals:
            value = "true"
        _merge(found, {key: value})
    return found


def _as_dict(option):
    if isinstance(option, str):
        return _words(option)
    if isinstance(option, dict):
        return option
    if option == 1:  # -o tree-bcast alone
        return {}
    raise ValueError("option tree-bcast: give a strategy, such as tree-bcast=two-tree")


def _merge(option, more):
    for key, value in more.items():
        if key in option:
            raise ValueError(f"option tree-bcast: {key} is given twice, give it once")
        option[key] = value
    return option


def _absolute(option, cwd):
    """Make paths absolute: the shell's own folder is /tmp where that of the job is missing."""
    keys = _as_dict(option)
    relative = [
        key
        for key in ("file", "report", "network")
        if isinstance(keys.get(key), str)
        and keys[key]
        and not keys[key].startswith(("/", "{{", *REGISTRY))
    ]
    racks = keys.get("racks")
    if isinstance(racks, str) and not os.path.isabs(racks):
        path = os.path.join(cwd, racks)
        # as the plugin tells a file from a pattern
        if "/" in racks or os.path.isfile(path):
            relative.append("racks")
    if not relative:
        return option
    return dict(keys, **{key: os.path.join(cwd, keys[key]) for key in relative})


def _refuse_other_rc(options, name, cwd):
    """Refuse an rc file of the user's that would leave the plugin out."""
    given = options.get(name)
    if given is None:
        return
    path = os.path.join(cwd or os.getcwd(), os.path.expanduser(str(given)))
    try:
        with open(path, "rb") as stream:
            text = os.fsdecode(stream.read())
    except OSError as exc:
        raise ValueError(
            f"{name}={given}: cannot be read here ({exc.strerror}), and --tree-bcast must know"
            f" that it sources {RC_NAME}"
        ) from None
    if name == "initrc" and "userrc" in text:
        return
    if RC_NAME not in text:
        raise ValueError(
            '{}={}: the job has --tree-bcast, so add this line to it: source "{}"'.format(
                name, given, _glob_escape(RC_FILE).replace("\\", "\\\\").replace('"', '\\"')
            )
        )


def _glob_escape(path):
    """Escape what flux-shell, which takes the name as a pattern, would expand."""
    return re.sub(r"[\[\]*?\\]", r"\\\g<0>", path)


def _node_count(jobspec):
    """Return how many nodes were asked for; None if any number would do."""
    resources = jobspec.resources
    count = None
    if len(resources) == 1 and resources[0].get("type") == "node":
        count = resources[0].get("count")
    return count if isinstance(count, int) else None


def _checked(option, nodes):
    """Return the option, complete, as the plugin will take it.

    The plugin itself is asked here. What it does not know may be a strategy of the user's own:
    the Python that has flux_tree is asked then, and says what is wrong if that is it.
    """
    fault = None
    try:
        fault = _ask_plugin(option)
    except (ImportError, AttributeError):
        pass  # of another version than Flux's interpreter can load: the shells will check
    else:
        if fault is None:
            return option
    python = _python()
    if python is None:
        if fault is None:
            return option
        raise ValueError(fault)
    return _ask_python(python, option, nodes)


def _ask_plugin(option):
    """Return what the shell plugin has against an option; None if nothing."""
    loader = importlib.machinery.ExtensionFileLoader("flux_tree._plugin", PLUGIN)
    spec = importlib.machinery.ModuleSpec("flux_tree._plugin", loader, origin=PLUGIN)
    module = importlib.util.module_from_spec(spec)
    fault = module.ffi.new("struct fault *")
    if module.lib.options_check(json.dumps(option).encode(), fault) < 0:
        return os.fsdecode(module.ffi.string(fault.text))
    return None


def _python():
    """Return the interpreter that has flux_tree; None if that is not known."""
    given = os.environ.get("FLUX_TREE_PYTHON")
    if given:
        return given
    try:
        with open(PYTHON_FILE) as stream:
            return stream.read().strip() or None
    except OSError:
        return None


def _ask_python(python, option, nodes):
    """Have flux_tree check an option, and make a plan of the user's own strategy."""
    request = {"option": _as_dict(option), "nodes": nodes, "overlay": _overlay(nodes)}
    try:
        process = subprocess.Popen(
            [python, "-m", "flux_tree._submission"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )
    except OSError as exc:
        raise ValueError(
            f"the Python of flux_tree, {python}: cannot be run ({exc.strerror}), set it anew with"
            " 'flux-tree env'"
        ) from None
    out, err = process.communicate(json.dumps(request).encode())
    if process.returncode != 0:
        lines = os.fsdecode(err).strip().splitlines() or ["it ended without a word"]
        raise ValueError(lines[-1].replace("flux-tree: error: ", "", 1))
    return json.loads(out.decode())


def _overlay(nodes):
    """Return the tree of the instance if the job takes all of it, else None."""
    try:
        handle = flux.Flux()
        if nodes != int(handle.attr_get("size")):
            return None
        return handle.rpc("overlay.topology", {"rank": 0}).get()
    except OSError:  # no instance, with --dry-run
        return None
