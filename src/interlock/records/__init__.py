"""Partly driven: operations, and the records that older code keeps of them, held in step both ways."""
