use alloc::boxed::Box;
use alloc::collections::BTreeMap;
use core::fmt;
use core::pin::Pin;

use serde_json::Value;

use crate::{Context, Params, RpcError};

/// What a method answers.
pub type Outcome = Result<Value, RpcError>;

/// A method at work. Boxed: this is the control path.
pub type Pending = Pin<Box<dyn Future<Output = Outcome>>>;

/// Starts a method. A trait of our own: the code of a boxed `Fn` is in the image twice, as it may
/// be called by value too.
trait Start {
    fn start(&self, cx: Context, params: Params) -> Pending;
}

/// A method that answers at once.
struct AtOnce<F>(F);

impl<F: Fn(Context, Params) -> Outcome> Start for AtOnce<F> {
    fn start(&self, cx: Context, params: Params) -> Pending {
        Box::pin(core::future::ready((self.0)(cx, params)))
    }
}

/// A method that may have to wait.
struct Later<F>(F);

impl<F, Fut> Start for Later<F>
where
    F: Fn(Context, Params) -> Fut,
    Fut: Future<Output = Outcome> + 'static,
{
    fn start(&self, cx: Context, params: Params) -> Pending {
        Box::pin((self.0)(cx, params))
    }
}

/// Whether the machine still waits for `framework_start_init`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum State {
    /// Options may be set; nothing is served yet.
    Startup,
    /// Everything runs.
    Runtime,
}

/// When a method may be called.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum When {
    /// Always.
    Any,
    /// Only before `framework_start_init`, or from the boot configuration.
    Startup,
    /// Only once everything runs, or from the boot configuration.
    Runtime,
}

impl When {
    /// Whether a call in `state` is allowed.
    pub const fn allows(self, state: State) -> bool {
        match self {
            Self::Any => true,
            Self::Startup => matches!(state, State::Startup),
            Self::Runtime => matches!(state, State::Runtime),
        }
    }
}

struct Method {
    when: When,
    handler: Box<dyn Start>,
}

/// All methods by name. Filled before the server starts, by the modules that own the methods.
#[derive(Default)]
pub struct Router {
    methods: BTreeMap<&'static str, Method>,
}

impl Router {
    /// A router without methods; see [`crate::methods::register_all`] for the usual ones.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a method that answers at once. A second one of the same name replaces the first.
    pub fn register<F>(&mut self, name: &'static str, when: When, handler: F)
    where
        F: Fn(Context, Params) -> Outcome + 'static,
    {
        self.insert(name, when, Box::new(AtOnce(handler)));
    }

    /// Adds a method that may have to wait: for another core, a device, or a time.
    pub fn register_async<F, Fut>(&mut self, name: &'static str, when: When, handler: F)
    where
        F: Fn(Context, Params) -> Fut + 'static,
        Fut: Future<Output = Outcome> + 'static,
    {
        self.insert(name, when, Box::new(Later(handler)));
    }

    /// Whether there is a method of that name.
    pub fn contains(&self, name: &str) -> bool {
        self.methods.contains_key(name)
    }

    /// The names of all methods, or of those that `state` allows, sorted.
    pub fn names(&self, state: Option<State>) -> impl Iterator<Item = &'static str> {
        self.methods
            .iter()
            .filter(move |(_, method)| state.is_none_or(|state| method.when.allows(state)))
            .map(|(name, _)| *name)
    }

    fn insert(&mut self, name: &'static str, when: When, handler: Box<dyn Start>) {
        self.methods.insert(name, Method { when, handler });
    }

    /// Starts a method, checking `state` unless it is `None` (the boot configuration).
    pub(crate) fn start(
        &self,
        name: &str,
        state: Option<State>,
        cx: Context,
        params: Params,
    ) -> Result<Pending, RpcError> {
        let Some(method) = self.methods.get(name) else {
            return Err(RpcError::new(RpcError::METHOD_NOT_FOUND, "Method not found"));
        };
        match state {
            Some(state) if !method.when.allows(state) => Err(wrong_state(method.when)),
            _ => Ok(method.handler.start(cx, params)),
        }
    }
}

impl fmt::Debug for Router {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.methods.keys()).finish()
    }
}

fn wrong_state(when: When) -> RpcError {
    let message = match when {
        When::Startup => "Method may only be called before framework is initialized",
        When::Any | When::Runtime => {
            "Method may only be called after framework is initialized using framework_start_init"
        }
    };
    RpcError::new(RpcError::INVALID_STATE, message)
}
