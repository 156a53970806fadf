"""ntxengine: an open capture engine for Nutanix AHV."""

__version__ = "0.1.0"
