"""What a machine is: declaring, building, checking, converting and drawing it. Pure, on the standard library."""
