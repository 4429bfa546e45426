#![expect(unsafe_code, reason = "a closure in fixed storage; DESIGN §5 places it here")]

use core::fmt;
use core::mem::{ManuallyDrop, MaybeUninit};

/// Words of captures that fit: 48 bytes.
const WORDS: usize = 6;

type Storage = MaybeUninit<[usize; WORDS]>;

/// What is done with the captures; one static table per closure type.
struct Actions<A: ?Sized + 'static> {
    /// Moves the closure out of the storage and runs it.
    run: unsafe fn(*mut Storage, &A),
    /// Drops the closure in place.
    discard: unsafe fn(*mut Storage),
}

/// A closure called at most once with an `&A`, its captures inline (at most 48 bytes, 8-aligned).
///
/// It makes the 56 bytes that, with a ring's sequence number, fill a cache line. Nothing is
/// allocated; a closure too large does not compile. Dropped unrun, it drops its captures.
pub struct InlineFn<A: ?Sized + 'static> {
    storage: Storage,
    actions: &'static Actions<A>,
}

const _: () = assert!(size_of::<InlineFn<()>>() == 56);

// SAFETY: the storage holds a closure that `new` required to be `Send`.
unsafe impl<A: ?Sized> Send for InlineFn<A> {}

impl<A: ?Sized + 'static> InlineFn<A> {
    /// Stores `f`.
    #[inline]
    pub fn new<F: FnOnce(&A) + Send + 'static>(f: F) -> Self {
        const {
            assert!(size_of::<F>() <= size_of::<Storage>(), "captures more than 48 bytes: box it");
            assert!(align_of::<F>() <= align_of::<Storage>(), "captures aligned beyond 8: box it");
        }
        let mut storage = Storage::uninit();
        // SAFETY: the storage is large and aligned enough, as asserted above.
        unsafe { storage.as_mut_ptr().cast::<F>().write(f) };
        Self { storage, actions: const { &Actions { run: run::<A, F>, discard: discard::<F> } } }
    }

    /// Runs it.
    #[inline]
    pub fn call(self, argument: &A) {
        let mut this = ManuallyDrop::new(self);
        let run = this.actions.run;
        // SAFETY: the storage holds the closure that `actions` was made for, and `this` is never
        // dropped, so it is moved out once.
        unsafe { run(&mut this.storage, argument) }
    }
}

/// # Safety
/// The storage must hold an `F`, which is moved out.
unsafe fn run<A: ?Sized, F: FnOnce(&A)>(storage: *mut Storage, argument: &A) {
    // SAFETY: promised by the caller.
    let f = unsafe { storage.cast::<F>().read() };
    f(argument);
}

/// # Safety
/// The storage must hold an `F`, which is gone afterwards.
unsafe fn discard<F>(storage: *mut Storage) {
    // SAFETY: promised by the caller.
    unsafe { storage.cast::<F>().drop_in_place() }
}

impl<A: ?Sized> Drop for InlineFn<A> {
    fn drop(&mut self) {
        // SAFETY: the storage still holds the closure: `call` does not drop `self`.
        unsafe { (self.actions.discard)(&mut self.storage) }
    }
}

impl<A: ?Sized> fmt::Debug for InlineFn<A> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("InlineFn").finish_non_exhaustive()
    }
}
