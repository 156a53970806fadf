"""The layers of Python, as tables: what each part may import, and nothing else; which libraries have one home.

cli, demo, bench -> use cases -> one part of the workflow each -> the data plane -> _core -> csrc
machine, errors, units, ids, events, concurrency, files and http_server are below everything; sim stands beside it
"""

import ast
from pathlib import Path

PACKAGE = Path(__file__).parent.parent / "src" / "ntxengine"

PYTHON_LAYERS = {
    # below everything
    "machine": set(),
    "errors": {"machine"},
    "units": {"errors"},
    "ids": set(),
    "http_server": set(),
    "events": set(),
    "concurrency": {"errors"},
    "machines": {"errors", "ids", "units"},
    "files": {"errors", "machine", "units"},
    # the data plane, and below it what a connection may go through
    "tunnel": {"concurrency", "errors", "files"},
    "_core": {"errors"},
    "dataplane": {"_core", "tunnel", "concurrency", "errors", "files", "machine", "units"},
    "images": {"_core", "dataplane", "concurrency", "errors", "files", "machine", "units"},
    # one part of the workflow each; `changes` and `attach` see of prism what it is, not how it works
    "prism": {"dataplane", "concurrency", "errors", "ids", "units"},
    "changes": {"prism", "dataplane", "concurrency", "errors", "files", "units"},
    "attach": {"prism", "images", "dataplane", "tunnel", "concurrency", "errors", "ids"},
    "repository": {"dataplane", "images", "concurrency", "errors", "files", "ids", "units"},
    # the use cases
    "capture": {
        "prism", "changes", "attach", "prune", "repository", "images", "_core", "dataplane",
        "concurrency", "errors", "events", "files", "units",
    },
    "export": {
        "capture", "changes", "attach", "prism", "repository", "images", "dataplane", "tunnel", "concurrency", "errors",
        "events", "files", "http_server", "units",
    },
    "replicate": {
        "capture", "changes", "attach", "prism", "machines", "repository", "rebase", "images", "_core", "dataplane",
        "concurrency", "errors", "events", "files", "units",
    },
    "sweep": {"capture", "attach", "prism", "repository", "concurrency", "errors", "events", "files", "units"},
    "check": {"verify", "repository", "images", "dataplane", "concurrency", "errors", "events", "ids", "units"},
    "stats": {"repository", "errors"},
    "compare": {"repository", "dataplane", "errors"},
    "verify": {"repository", "images", "dataplane", "concurrency", "errors", "events", "units"},
    "rebase": {"verify", "repository", "images", "dataplane", "concurrency", "errors", "files"},
    "prune": {"rebase", "repository", "images", "dataplane", "concurrency", "errors", "events", "files", "units"},
    "sync": {"rebase", "repository", "dataplane", "concurrency", "errors", "events", "files"},
    "retention": {"repository", "errors", "units"},
    "probe": {"prism", "attach", "images", "concurrency", "errors", "files", "ids", "units"},
    "restore": {"repository", "images", "_core", "dataplane", "concurrency", "errors", "events", "files", "units"},
    "copying": {"images", "_core", "dataplane", "concurrency", "errors", "files", "units"},
    # when something is due
    "schedule": {"errors", "units"},
    # the service, which composes use cases
    "agent": {
        "api", "config", "capture", "prune", "replicate", "retention", "sweep", "prism", "attach", "repository",
        "dataplane", "schedule", "concurrency", "errors", "events", "files", "http_server", "ids", "units",
    },
    # the service as a part of a machine
    "deploy": {"agent", "config", "repository", "errors", "files"},
    # beside the stack: what it got wrong must not be mirrored in prism
    "sim": {"concurrency", "errors", "units", "ids"},
    # the library: the calls, and the names that `import ntxengine` shows
    "api": {
        "capture", "copying", "export", "restore", "prune", "sync", "prism", "attach", "repository", "images",
        "dataplane", "tunnel", "concurrency", "errors", "events", "ids",
    },
    "__init__": {
        "api", "capture", "compare", "copying", "verify", "restore", "retention", "prism", "repository", "images",
        "check", "prune", "sync", "dataplane", "tunnel", "errors", "events", "export", "stats",
    },
    # the file of configuration: what it means to use cases
    "config": {
        "api", "attach", "capture", "prism", "prune", "retention", "replicate", "machines", "repository", "images",
        "dataplane", "tunnel", "schedule", "errors", "files", "ids", "units",
    },
    # the top
    "__main__": {"cli"},
    "demo": {"errors", "units"},
    "bench": {"images", "dataplane", "tunnel", "concurrency", "errors", "units"},
    "cli": {
        "deploy",
        "agent", "api", "config", "capture", "compare", "copying", "verify", "restore", "retention", "prune", "sweep",
        "sync", "probe", "check", "prism", "attach", "repository", "sim", "demo", "bench", "images", "_core",
        "dataplane", "tunnel", "stats", "concurrency", "errors", "events", "export", "files", "ids", "machine", "units",
        "machines", "replicate",
    },
}  # fmt: skip

# The parts of a layer that has rooms of its own: what each may import of that layer.
ROOMS = {
    "prism": {
        **{below: set() for below in ("http", "guest", "versions")},
        "models": {"guest", "versions"},
        "findings": {"models"},
        "cluster": {"findings", "models"},
        "regions": {"http", "models"},
        "kept": {"http", "tasks"},
        **{above_http: {"http"} for above_http in ("iscsi", "reach", "tasks", "pages", "place")},
        "listing": {"http", "models", "pages"},
        "power": {"http", "models", "tasks"},
        **{
            family: {
                "findings", "guest", "http", "iscsi", "kept", "listing", "models", "pages", "power", "regions",
                "tasks", "versions",
            }
            for family in ("v3", "v4")
        },
        "probe": {"findings", "http", "v3", "v4"},
        "inquiry": {"cluster", "findings", "http", "place", "probe", "v3", "v4"},
        "open": {"cluster", "http", "place", "probe", "v3", "v4"},
        "__init__": {"cluster", "findings", "guest", "http", "models", "open"},
    },
}  # fmt: skip


def public_names(unit: str) -> set[str]:
    """Return what a package offers by its `__all__`."""
    body = ast.parse((PACKAGE / unit / "__init__.py").read_text()).body
    values = (node.value for node in body if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "__all__")
    return set(ast.literal_eval(next(values)))


OF_REPOSITORY = (
    "capture", "compare", "export", "replicate", "stats", "sweep", "sync", "verify", "restore", "retention", "rebase",
    "prune", "api", "agent", "config", "__init__", "cli",
)  # fmt: skip

# What these layers may see of another.
FACADES = {
    "ntxengine.prism": {
        "attach": {"cluster", "findings", "models"},
        "capture": {"cluster", "models", "versions"},
        "export": {"cluster", "models", "Secret"},
        "replicate": {"cluster", "models"},
        **{layer: {"cluster", "models"} for layer in ("changes", "sweep")},
    },
    "ntxengine.repository": dict.fromkeys(OF_REPOSITORY, public_names("repository"))
    | {"check": public_names("repository") | {"structure"}},
    # Use cases ask for an image to read or to write, and do not know what is behind it.
    "ntxengine.images": {
        "attach": {"process", "qemu_img", "qemu_nbd", "served"},
        "capture": {"choice", "create", "open"},
        "export": {"qemu_nbd", "served"},
        "replicate": {"create", "header", "open", "ova", "qemu_nbd", "rebase", "served", "vhd", "vmdk", "writer"},
        "restore": {"choice", "create", "formats", "open"},
        "check": {"qemu_img"},
        "verify": {"open"},
        "probe": {"qemu_img"},
        "prune": {"create", "header", "open"},
        "rebase": {"choice", "create", "header", "open", "writer"},
        "repository": {"create", "header", "qemu_img", "qemu_nbd", "rebase", "served"},
        "copying": {"choice", "endpoints", "targets"},
        "api": {"choice", "endpoints"},
        "config": {"choice"},
        "__init__": {"choice"},
        "cli": {"choice", "endpoints", "formats", "targets"},
    },
}

# Libraries that have one home.
LIBRARY_HOMES = {
    "opentelemetry": {"agent/traces.py"},
    "httpx": {"agent/pings.py", "export/notify.py", "prism/http/session.py"},
    "click": {"cli/"},
    "rich": {"cli/"},
    "uvloop": {"cli/loop.py"},
    "starlette": {"agent/", "export/", "http_server.py", "sim/"},
    "uvicorn": {"http_server.py", "sim/"},
    "trustme": {"sim/"},
    "yaml": {"sim/", "bench/suite.py", "config/"},
    "pydantic": {"config/"},
    "matplotlib": {"bench/plot.py"},
    "sqlite3": {"agent/database.py", "agent/reading.py", "agent/state.py", "repository/"},
    "cronsim": {"schedule/", "config/checks.py"},
}
