use alloc::boxed::Box;
use core::fmt;
use core::future::Future;
use core::time::Duration;

use basalt_env::CoreId;
use basalt_ring::oneshot;

use crate::mesh::Event;
use crate::{Local, SendError, yield_now};

/// How long a call waits for room in the other core's mailbox.
const PATIENCE: Duration = Duration::from_secs(1);

/// Why a call gave no result.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum CallError {
    /// There is no such core, or its reactor has ended.
    NoSuchCore,
    /// The core's mailbox stayed full for a second.
    Busy,
    /// The core's reactor ended before it answered.
    Lost,
}

impl fmt::Display for CallError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::NoSuchCore => "there is no such core",
            Self::Busy => "the core's mailbox stayed full",
            Self::Lost => "the core ended before it answered",
        })
    }
}

impl Local {
    /// Runs `f` on `core` and gives its result. `core` may be this one.
    ///
    /// For the control path: it allocates. It waits for room in the mailbox for at most a second,
    /// and for the answer as long as the other reactor lives: bound it with [`Self::timeout`].
    pub async fn call<R: Send + 'static>(
        &self,
        core: CoreId,
        f: impl FnOnce(&Self) -> R + Send + 'static,
    ) -> Result<R, CallError> {
        let (answer, result) = oneshot::channel();
        self.deliver(core, move |local| answer.send(f(local))).await?;
        result.await.map_err(|_| CallError::Lost)
    }

    /// Runs `f` on `core` as a task and gives its result. Otherwise as [`Self::call`].
    ///
    /// The task runs to its end even if the caller no longer waits.
    pub async fn run_on<R, F, Fut>(&self, core: CoreId, f: F) -> Result<R, CallError>
    where
        R: Send + 'static,
        F: FnOnce(Self) -> Fut + Send + 'static,
        Fut: Future<Output = R> + 'static,
    {
        let (answer, result) = oneshot::channel();
        let start = move |local: &Self| {
            let body = f(local.clone());
            local.spawn("run_on", async move { answer.send(body.await) });
        };
        self.deliver(core, start).await?;
        result.await.map_err(|_| CallError::Lost)
    }

    /// The same as a task of the background: see [`Self::spawn_background`].
    pub async fn run_in_background_on<R, F, Fut>(&self, core: CoreId, f: F) -> Result<R, CallError>
    where
        R: Send + 'static,
        F: FnOnce(Self) -> Fut + Send + 'static,
        Fut: Future<Output = R> + 'static,
    {
        let (answer, result) = oneshot::channel();
        let start = move |local: &Self| {
            let body = f(local.clone());
            local.spawn_background("run_on", async move { answer.send(body.await) });
        };
        self.deliver(core, start).await?;
        result.await.map_err(|_| CallError::Lost)
    }

    /// Sends a closure of any size, waiting for room.
    async fn deliver(
        &self,
        core: CoreId,
        f: impl FnOnce(&Self) + Send + 'static,
    ) -> Result<(), CallError> {
        let boxed: Box<dyn FnOnce(&Self) + Send> = Box::new(f);
        let mut event = Event::new(move |local: &Self| boxed(local));
        let give_up = self.now() + PATIENCE;
        loop {
            event = match self.push(core, event) {
                Ok(()) => return Ok(()),
                Err((SendError::NoSuchCore, _)) => return Err(CallError::NoSuchCore),
                Err((SendError::Full, _)) if self.now() >= give_up => return Err(CallError::Busy),
                Err((SendError::Full, event)) => event,
            };
            yield_now().await;
        }
    }
}
