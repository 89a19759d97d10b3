"""The loops of simulation for graphics processors, and their twins in plain torch.

Every operation exists twice with one signature: in :mod:`cgbench.kernels.device.twin` as tensor
expressions for any device, and in :mod:`cgbench.kernels.device.fused` as Triton kernels. All shapes
are known beforehand, nothing is allocated by the kernels and nothing waits for the device, so that
a whole step can be recorded once and replayed. No sum is made by several programs at once: the same
numbers give the same bits.
"""
