//! Commands that a controller may take long for, while its task goes on.

use alloc::boxed::Box;
use alloc::vec::Vec;
use core::future::{Future, poll_fn};
use core::pin::{Pin, pin};
use core::task::{Context, Poll};

use basalt_bdev::NvmeReport;
use basalt_nvme::{AdminError, Outcome};
use basalt_reactor::sync::oneshot;

use crate::ManageError;
use crate::controllers::Request;

/// How a command ended that was under way, with whom to tell.
pub(crate) enum Ended {
    /// One that somebody else wrote. Whether namespaces may have changed.
    Admin(Result<Outcome, AdminError>, oneshot::Sender<Result<Outcome, AdminError>>, Changes),
    /// An order.
    Order(
        Result<NvmeReport, AdminError>,
        oneshot::Sender<Result<NvmeReport, ManageError>>,
        Changes,
    ),
}

/// What a command may have changed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Changes {
    /// Nothing that is a bdev.
    Nothing,
    /// Namespaces, which have to be looked at again.
    Namespaces,
    /// The same of namespaces that were held back meanwhile.
    Held,
    /// All of them, which are still held back until the controller is done by itself.
    Sanitizes,
    /// What the controller says of itself.
    Controller,
}

/// What comes first.
pub(crate) enum Next {
    /// A command has ended.
    Ended(Ended),
    /// There is a request.
    Asked(Request),
}

/// The commands that are under way.
#[derive(Default)]
pub(crate) struct Jobs<'a> {
    jobs: Vec<Pin<Box<dyn Future<Output = Ended> + 'a>>>,
}

impl<'a> Jobs<'a> {
    /// One more is under way.
    pub(crate) fn add(&mut self, job: impl Future<Output = Ended> + 'a) {
        self.jobs.push(Box::pin(job));
    }

    /// The next request, or the end of a command if that comes first. Nothing is lost if nobody
    /// waits for it to the end.
    pub(crate) async fn or(&mut self, request: impl Future<Output = Request>) -> Next {
        let mut request = pin!(request);
        poll_fn(|context| {
            if let Poll::Ready(request) = request.as_mut().poll(context) {
                return Poll::Ready(Next::Asked(request));
            }
            self.poll(context).map(Next::Ended)
        })
        .await
    }

    fn poll(&mut self, context: &mut Context<'_>) -> Poll<Ended> {
        for at in 0..self.jobs.len() {
            if let Poll::Ready(ended) = self.jobs[at].as_mut().poll(context) {
                drop(self.jobs.swap_remove(at));
                return Poll::Ready(ended);
            }
        }
        Poll::Pending
    }
}
