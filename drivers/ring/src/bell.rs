use crate::sync::{AtomicBool, Ordering, fence};

/// Whether a core sleeps, for those who leave work for it without waiting.
///
/// ```text
///  sleeper                                 visitor
///    lie_down                                leaves work
///    looks for work once more                must_ring, and if so: rings
///    sleeps until rung, or gets up
/// ```
///
/// Either the sleeper finds the work when it looks once more, or the visitor is told to ring: both
/// write before they read, with a fence in between that all cores agree on.
#[derive(Debug)]
pub struct Bell {
    asleep: AtomicBool,
}

impl Default for Bell {
    fn default() -> Self {
        Self { asleep: AtomicBool::new(false) }
    }
}

impl Bell {
    /// About to sleep: to be called before looking for work for the last time.
    #[inline]
    pub fn lie_down(&self) {
        self.asleep.store(true, Ordering::SeqCst);
        fence(Ordering::SeqCst);
    }

    /// Awake, rung or not.
    #[inline]
    pub fn get_up(&self) {
        self.asleep.store(false, Ordering::Relaxed);
    }

    /// Whether the sleeper has to be rung for work that was left by stores of any kind. Of several
    /// visitors one is told so.
    #[inline]
    pub fn must_ring(&self) -> bool {
        fence(Ordering::SeqCst);
        self.must_ring_after_fence()
    }

    /// The same for work that was left, and is looked for, by one sequentially consistent exchange,
    /// or that the caller left before a sequentially consistent fence: on x86-64 this costs a load.
    #[inline]
    pub fn must_ring_after_fence(&self) -> bool {
        self.asleep.load(Ordering::SeqCst) && self.asleep.swap(false, Ordering::Relaxed)
    }
}
