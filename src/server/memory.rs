//! Memory that is free goes back to the system.

/// Gives back what the C library's allocator holds free between what is in use; what is free at the end goes back by itself. It takes
/// some milliseconds, in which one arena after the other is locked. Elsewhere than with glibc nothing is done.
pub fn give_back() {
    #[cfg(all(target_os = "linux", target_env = "gnu"))]
    #[allow(unsafe_code)]
    // SAFETY: it takes a number and no pointer, may be called from any thread at any time (malloc_trim(3): MT-Safe), and touches only
    // pages in which nothing is in use.
    unsafe {
        libc::malloc_trim(0);
    }
}
