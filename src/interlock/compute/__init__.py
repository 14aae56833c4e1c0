"""The domain pack for virtual machines: the hypervisors that machines' actions stand on, and a guest that proves them."""
