"""What older code did, as it wrote it down: read, mined for a machine, and held against one."""
