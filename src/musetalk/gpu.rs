//! What libtorch's operators leave to be done on an NVIDIA GPU.
//!
//! In here: kernels of our own ([`kernels`]); work of steady shapes as CUDA graphs ([`graphs`]), by the functions of
//! `shim.cpp` ([`shim`]). All of it is for a machine that has CUDA, and none of it is needed: whoever
//! asks here gets an answer on every machine, and takes libtorch's plain operators where there is nothing else. Uses no other
//! room of `musetalk`. Runs on: whichever thread calls.

pub mod graphs;
pub mod kernels;
mod launch;
pub mod shim;
