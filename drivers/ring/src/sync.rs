//! The few primitives that `loom` must see, under one name for both builds.

#[cfg(loom)]
pub(crate) use loom::{
    cell::UnsafeCell,
    hint::spin_loop,
    sync::Arc,
    sync::atomic::{AtomicBool, AtomicU8, AtomicUsize, Ordering, fence},
};

#[cfg(not(loom))]
pub(crate) use self::native::UnsafeCell;
#[cfg(not(loom))]
pub(crate) use {
    alloc::sync::Arc,
    core::hint::spin_loop,
    core::sync::atomic::{AtomicBool, AtomicU8, AtomicUsize, Ordering, fence},
};

#[cfg(not(loom))]
mod native {
    /// `core`'s cell with the shape of loom's, which sees when each access begins and ends.
    #[derive(Debug)]
    pub(crate) struct UnsafeCell<T>(core::cell::UnsafeCell<T>);

    impl<T> UnsafeCell<T> {
        pub(crate) const fn new(value: T) -> Self {
            Self(core::cell::UnsafeCell::new(value))
        }

        #[inline(always)]
        pub(crate) fn with_mut<R>(&self, access: impl FnOnce(*mut T) -> R) -> R {
            access(self.0.get())
        }
    }
}

/// Keeps a value on cache lines of its own: two, as the processor fetches lines in pairs.
#[derive(Debug)]
#[repr(align(128))]
pub(crate) struct Padded<T>(pub(crate) T);

/// The capacity of a ring asked to hold `wanted`: a power of two, at least 2.
pub(crate) fn ring_capacity(wanted: usize) -> usize {
    wanted.clamp(2, 1 << 30).next_power_of_two()
}
