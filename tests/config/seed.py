"""The file that the product began with, as it was written down then."""

SEED = """\
# nutanix-agent.yaml
nutanix:
  prism_central: "prism-central.company.com:9440"
  prism_element: "prism-element.company.com:9440"
  username: "sendense-backup@company.com"
  password: "${NUTANIX_PASSWORD}"
  cluster_uuid: "12345678-1234-5678-9012-123456789012"

backup:
  method: "snapshot_diff"          # or "cbt" if supported
  consistency: "application"       # Use NGT for app consistency
  snapshot_retention_hours: 24     # Keep snapshots 24h for incrementals

performance:
  max_concurrent_vms: 5           # Concurrent VM backups per CVM
  snapshot_timeout_minutes: 30    # Timeout for snapshot operations
  bandwidth_limit_mbps: 500       # Optional throttling

tunnel:
  control_plane_host: "control.sendense.com"
  tunnel_port: 443
  ssh_key_path: "/opt/sendense/ssh/nutanix_tunnel_key"
"""

PASSWORD = "a password with $ and : in it"
ENVIRONMENT = {"NUTANIX_PASSWORD": PASSWORD}
