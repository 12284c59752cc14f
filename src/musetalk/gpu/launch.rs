//! Loading and launching CUDA kernels. The only unsafe code of the kernels.
