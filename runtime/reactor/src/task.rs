//! The task cell: one allocation that holds a future and the header its wakers point to.
//!
//! ```text
//!  Idle ──1 poll──> Running ──2 pending──> Idle        Idle ──4 drop of Task──> Gone
//!                      ├─────3 ready─────> Gone
//!                      └─5 drop of Task─> Dropping ──6 poll returns──> Gone
//! ```
//!
//! Why this is sound, in four sentences. [`Runner`], [`Task`] and [`Batch`] are `!Send`, and only a
//! `Runner` makes the other two, so the life cycle above and the future are touched by one core.
//! A `Waker` may be anywhere, but reaches only the header's atomics: the count of references, the
//! queued flag, the link and the queue. The future is dropped by transitions 3, 4 and 6 only, never
//! by the release of the memory, which may happen on any core. A header is linked into a queue only
//! by whoever turned its queued flag on, and that link owns one reference until it is taken off.
#![expect(unsafe_code, reason = "the executor's task cell; DESIGN §5 places it here")]

use alloc::boxed::Box;
#[cfg(not(loom))]
use alloc::sync::Arc;
use core::cell::{Cell, UnsafeCell};
use core::future::Future;
use core::marker::PhantomData;
use core::mem::{self, ManuallyDrop};
use core::pin::Pin;
use core::ptr::{self, NonNull};
#[cfg(not(loom))]
use core::sync::atomic::{AtomicBool, AtomicPtr, AtomicUsize, Ordering, fence};
use core::task::{Context, Poll, RawWaker, RawWakerVTable, Waker};

use crate::rest::Bedside;

#[cfg(loom)]
use loom::sync::{
    Arc,
    atomic::{AtomicBool, AtomicPtr, AtomicUsize, Ordering, fence},
};

/// Where a task is in its life cycle. Only its own core looks.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Stage {
    Idle,
    Running,
    Dropping,
    Gone,
}

/// What is done with the future behind a header whose type is forgotten.
struct Actions {
    /// Polls the future. Only while `Running`.
    poll: unsafe fn(NonNull<Header>, &mut Context<'_>) -> Poll<()>,
    /// Drops the future in place. Once.
    drop_future: unsafe fn(NonNull<Header>),
    /// Releases the memory. By the last reference.
    free: unsafe fn(NonNull<Header>),
}

struct Header {
    references: AtomicUsize,
    queued: AtomicBool,
    /// The next task in the queue or batch; meaningful while queued.
    next: AtomicPtr<Header>,
    queue: Arc<Queue>,
    stage: Cell<Stage>,
    key: usize,
    actions: &'static Actions,
}

#[repr(C)]
struct TaskCell<F> {
    /// First, so that a pointer to the cell is one to its header.
    header: Header,
    future: UnsafeCell<ManuallyDrop<F>>,
}

/// One counted reference to a header.
struct Ref(NonNull<Header>);

impl Ref {
    fn header(&self) -> &Header {
        // SAFETY: the reference this value owns keeps the header alive. All fields but `stage`
        // may be shared between cores, and `stage` is only touched through `!Send` types.
        unsafe { self.0.as_ref() }
    }

    /// Gives the reference to a raw pointer.
    fn into_raw(self) -> *mut Header {
        ManuallyDrop::new(self).0.as_ptr()
    }

    /// # Safety
    /// `raw` must come from [`Self::into_raw`], and the reference it owns passes to the result.
    unsafe fn from_raw(raw: *mut Header) -> Self {
        // SAFETY: `into_raw` gives no null pointer.
        Self(unsafe { NonNull::new_unchecked(raw) })
    }

    /// Turns the queued flag on, and says whether that was for us to do.
    ///
    /// Release and acquire: if it was on already, the poll that follows sees our writes.
    fn mark_queued(&self) -> bool {
        !self.header().queued.swap(true, Ordering::AcqRel)
    }

    /// Puts the task into its queue. Only after [`Self::mark_queued`] said yes.
    fn enqueue(self) {
        let queue = Arc::as_ptr(&self.header().queue);
        // SAFETY: the header keeps its queue alive, and is alive until the exchange in `push`
        // has succeeded; after that `push` touches neither.
        unsafe { (*queue).push(self) }
    }
}

impl Clone for Ref {
    fn clone(&self) -> Self {
        self.header().references.fetch_add(1, Ordering::Relaxed);
        Self(self.0)
    }
}

impl Drop for Ref {
    fn drop(&mut self) {
        if self.header().references.fetch_sub(1, Ordering::Release) != 1 {
            return;
        }
        fence(Ordering::Acquire);
        let free = self.header().actions.free;
        // SAFETY: it was the last reference; every use through another happens before the fence.
        unsafe { free(self.0) }
    }
}

/// Tasks to run: a stack that any core pushes to and its own core takes as a whole.
struct Queue {
    head: AtomicPtr<Header>,
    /// Who sleeps on them; nobody in the models, which are about the queue.
    sleeper: Option<&'static Bedside>,
}

/// What `head` holds once the runner is gone: an address that no header has.
fn closed() -> *mut Header {
    static CLOSED: u8 = 0;
    (&raw const CLOSED).cast_mut().cast()
}

impl Queue {
    /// Links a task whose queued flag the caller has just turned on.
    fn push(&self, task: Ref) {
        let sleeper = self.sleeper;
        let mut head = self.head.load(Ordering::Relaxed);
        while head != closed() {
            task.header().next.store(head, Ordering::Relaxed);
            // Release: whoever takes the stack sees `next`. Sequentially consistent beyond that:
            // the sleeper looks at the stack for the last time before we look at the sleeper.
            match self.head.compare_exchange_weak(
                head,
                task.0.as_ptr(),
                Ordering::SeqCst,
                Ordering::Relaxed,
            ) {
                Ok(_) => {
                    task.into_raw();
                    return sleeper.into_iter().for_each(Bedside::wake_after_fence);
                }
                Err(now) => head = now,
            }
        }
    }
}

const WAKER: RawWakerVTable =
    RawWakerVTable::new(waker_clone, waker_wake, waker_wake_by_ref, waker_drop);

/// # Safety
/// `data` must be that of one of our wakers, and alive.
unsafe fn waker_clone(data: *const ()) -> RawWaker {
    // SAFETY: the waker's own reference is only borrowed here.
    let task = unsafe { ManuallyDrop::new(Ref::from_raw(data.cast_mut().cast())) };
    RawWaker::new((*task).clone().into_raw().cast_const().cast(), &WAKER)
}

/// # Safety
/// As for [`waker_clone`]; the waker is gone afterwards.
unsafe fn waker_wake(data: *const ()) {
    // SAFETY: the waker's reference passes to us.
    let task = unsafe { Ref::from_raw(data.cast_mut().cast()) };
    if task.mark_queued() {
        task.enqueue();
    }
}

/// # Safety
/// As for [`waker_clone`].
unsafe fn waker_wake_by_ref(data: *const ()) {
    // SAFETY: the waker's own reference is only borrowed here.
    let task = unsafe { ManuallyDrop::new(Ref::from_raw(data.cast_mut().cast())) };
    if task.mark_queued() {
        (*task).clone().enqueue();
    }
}

/// # Safety
/// As for [`waker_clone`]; the waker is gone afterwards.
unsafe fn waker_drop(data: *const ()) {
    // SAFETY: the waker's reference passes to us, and is given up.
    drop(unsafe { Ref::from_raw(data.cast_mut().cast()) });
}

/// # Safety
/// `task` must head a live `TaskCell<F>` whose future is not gone, on the task's own core, and no
/// other poll of it may be under way.
unsafe fn poll<F: Future<Output = ()>>(
    task: NonNull<Header>,
    context: &mut Context<'_>,
) -> Poll<()> {
    let cell = task.cast::<TaskCell<F>>().as_ptr();
    // SAFETY: promised by the caller; the cell never moves, so the future is pinned.
    let future = unsafe { Pin::new_unchecked(&mut **(*cell).future.get()) };
    future.poll(context)
}

/// # Safety
/// As for [`poll`]; the future is gone afterwards.
unsafe fn drop_future<F>(task: NonNull<Header>) {
    let cell = task.cast::<TaskCell<F>>().as_ptr();
    // SAFETY: promised by the caller.
    unsafe { ManuallyDrop::drop(&mut *(*cell).future.get()) }
}

/// # Safety
/// `task` must head a `TaskCell<F>` to which nobody refers any more.
unsafe fn free<F>(task: NonNull<Header>) {
    // SAFETY: the cell was boxed by `Runner::spawn`; the future inside is not dropped by this.
    drop(unsafe { Box::from_raw(task.cast::<TaskCell<F>>().as_ptr()) });
}

/// Makes and collects the tasks of one core. It stays on the core that made it.
pub(crate) struct Runner {
    queue: Arc<Queue>,
    not_send: PhantomData<*const ()>,
}

impl Runner {
    /// For tasks on which `sleeper` may sleep.
    pub fn new(sleeper: Option<&'static Bedside>) -> Self {
        let queue = Arc::new(Queue { head: AtomicPtr::new(ptr::null_mut()), sleeper });
        Self { queue, not_send: PhantomData }
    }

    /// Makes a task of `future`, woken once. `key` is for the caller to find it again.
    pub fn spawn<F: Future<Output = ()> + 'static>(&self, key: usize, future: F) -> Task {
        let header = Header {
            references: AtomicUsize::new(1),
            queued: AtomicBool::new(true),
            next: AtomicPtr::new(ptr::null_mut()),
            queue: self.queue.clone(),
            stage: Cell::new(Stage::Idle),
            key,
            actions: const {
                &Actions { poll: poll::<F>, drop_future: drop_future::<F>, free: free::<F> }
            },
        };
        let future = UnsafeCell::new(ManuallyDrop::new(future));
        let cell = NonNull::from(Box::leak(Box::new(TaskCell { header, future })));
        let task = Task(Ref(cell.cast()));
        task.0.clone().enqueue();
        task
    }

    /// Takes every task woken so far, oldest first. Tasks woken from now on wait for the next
    /// batch.
    pub fn take(&self) -> Batch {
        if self.queue.head.load(Ordering::SeqCst).is_null() {
            return Batch::default();
        }
        // Acquire: see the links stored before each push.
        self.take_leaving(ptr::null_mut())
    }

    fn take_leaving(&self, left: *mut Header) -> Batch {
        let mut newest = self.queue.head.swap(left, Ordering::Acquire);
        let mut oldest = ptr::null_mut();
        while !newest.is_null() {
            // SAFETY: each linked header is kept alive by its link, which is ours since the swap.
            let next = unsafe { &(*newest).next };
            let newer = newest;
            newest = next.load(Ordering::Relaxed);
            next.store(oldest, Ordering::Relaxed);
            oldest = newer;
        }
        Batch { first: oldest }
    }
}

impl Drop for Runner {
    fn drop(&mut self) {
        // From now on wakes are dropped; those before would keep tasks and queue alive in a circle.
        drop(self.take_leaving(closed()));
    }
}

/// Tasks taken to be run, oldest first.
pub(crate) struct Batch {
    first: *mut Header,
}

impl Batch {
    /// Whether all have been run, or there were none.
    pub fn is_empty(&self) -> bool {
        self.first.is_null()
    }
}

impl Default for Batch {
    /// No tasks.
    fn default() -> Self {
        Self { first: ptr::null_mut() }
    }
}

impl Iterator for Batch {
    type Item = Ready;

    fn next(&mut self) -> Option<Ready> {
        if self.first.is_null() {
            return None;
        }
        // SAFETY: the link's reference passes from the batch to `task`.
        let task = unsafe { Ref::from_raw(self.first) };
        self.first = task.header().next.load(Ordering::Relaxed);
        // Acquire: see what wakers wrote before they found the flag on. Release: order the read
        // of the link before the next waker's store to it.
        task.header().queued.swap(false, Ordering::AcqRel);
        Some(Ready(task))
    }
}

impl Drop for Batch {
    fn drop(&mut self) {
        self.for_each(drop);
    }
}

/// What came of running a task.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Progress {
    /// It waits, or was finished before.
    Waiting,
    /// It has just finished and its future is dropped.
    Finished,
}

/// A woken task.
pub(crate) struct Ready(Ref);

impl Ready {
    /// The key it was spawned with.
    pub fn key(&self) -> usize {
        self.0.header().key
    }

    /// Polls the future once, if there still is one.
    pub fn run(&self) -> Progress {
        let header = self.0.header();
        if header.stage.get() != Stage::Idle {
            return Progress::Waiting;
        }
        header.stage.set(Stage::Running);
        let ending = Ending(&self.0);
        let data = self.0.0.as_ptr().cast_const().cast();
        // SAFETY: the waker borrows the reference of `self`, which outlives it, and is not dropped.
        let waker = ManuallyDrop::new(unsafe { Waker::from_raw(RawWaker::new(data, &WAKER)) });
        // SAFETY: the stage was `Idle`, so the future is there and no other poll is under way;
        // `self` is `!Send` and made on the task's core.
        let poll = unsafe { (header.actions.poll)(self.0.0, &mut Context::from_waker(&waker)) };
        if poll.is_pending() && header.stage.get() == Stage::Running {
            header.stage.set(Stage::Idle);
            mem::forget(ending);
            return Progress::Waiting;
        }
        Progress::Finished
    }
}

/// Ends a running task when dropped, so that even a panic in its poll drops the future.
struct Ending<'a>(&'a Ref);

impl Drop for Ending<'_> {
    fn drop(&mut self) {
        let header = self.0.header();
        header.stage.set(Stage::Gone);
        // SAFETY: the stage was `Running` or `Dropping`, so the future is there, and is dropped
        // once, as nobody looks at it when `Gone`. We are on its core, its poll has returned.
        unsafe { (header.actions.drop_future)(self.0.0) }
    }
}

/// A task's owner. Dropping it drops the future, at once or when the poll under way returns.
pub(crate) struct Task(Ref);

impl Drop for Task {
    fn drop(&mut self) {
        let header = self.0.header();
        match header.stage.get() {
            Stage::Idle => drop(Ending(&self.0)),
            Stage::Running => header.stage.set(Stage::Dropping),
            Stage::Dropping | Stage::Gone => {}
        }
    }
}

#[cfg(test)]
mod loom_tests;
