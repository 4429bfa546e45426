//! Questions to another core, in a form that is in the image once for all of them.

use alloc::boxed::Box;
use core::any::Any;
use core::pin::Pin;

use basalt_env::CoreId;
use basalt_reactor::{CallError, Local};

/// What a core that was asked found out.
pub type Found = Box<dyn Any + Send>;

/// What it does to find out.
pub type Finding = Pin<Box<dyn Future<Output = Found>>>;

/// What it is asked.
pub type Question = Box<dyn FnOnce(Local) -> Finding + Send>;

/// Has `core` answer `question` in its background, as [`Local::run_in_background_on`] does.
pub fn ask(
    local: &Local,
    core: CoreId,
    question: Question,
) -> Pin<Box<dyn Future<Output = Result<Found, CallError>>>> {
    let local = local.clone();
    Box::pin(async move { local.run_in_background_on(core, question).await })
}
