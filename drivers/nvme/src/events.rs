use basalt_env::Device;
use basalt_nvme_spec::identify::NamespaceList;
use basalt_nvme_spec::log_page::{ErrorEntry, FirmwareSlots, SanitizeStatus, SmartHealth};
use basalt_nvme_spec::{AsyncEvent, Command, FeatureId, LogPageId, NSID_ALL};

use crate::{AdminError, Controller};

/// Asynchronous Event Requests kept with a controller: one kind of event may follow another before
/// the first has been seen to.
const REQUESTS_MAX: u8 = 4;

/// What a controller's events have come to.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Events {
    /// How many there were.
    pub count: u32,
    /// Whether namespaces have come, gone, or changed: see [`Controller::rescan`].
    pub namespaces_changed: bool,
    /// Whether a sanitize operation has ended: see [`Controller::sanitize_status`].
    pub sanitized: bool,
}

/// Asynchronous events (base specification 2.0 §5.2).
impl<D: Device> Controller<D> {
    /// Chooses the events and asks for them, on the way up.
    pub(crate) async fn arm_events(&self) -> Result<(), AdminError> {
        let (oaes, aerl) = {
            let identify = self.identify.borrow();
            (identify.oaes.get(), identify.aerl)
        };
        let wanted = AsyncEvent::CONFIG_HEALTH | oaes & AsyncEvent::CONFIG_NAMESPACE;
        let configure = Command::set_features(FeatureId::ASYNC_EVENT_CONFIG, wanted);
        match self.command(configure, None).await {
            Ok(_) => {}
            Err(AdminError::Status(status)) => {
                log::debug!("nvme {}: events as the controller likes: {status}", self.address);
            }
            Err(error) => return Err(error),
        }
        // The limit counts from 0.
        (0..aerl.saturating_add(1).min(REQUESTS_MAX)).try_for_each(|_| self.request_event())
    }

    /// Sees to the events that have arrived: tells of each in the log, reads the log page that
    /// clears it, and asks for the next.
    ///
    /// # Errors
    /// The controller does not answer.
    pub async fn see_to_events(&self) -> Result<Events, AdminError> {
        let mut events = Events::default();
        while let Some(event) = self.poll_event() {
            events.count += 1;
            match event.kind() {
                AsyncEvent::TYPE_NOTICE if event.info() == AsyncEvent::NOTICE_NAMESPACE => {
                    log::info!("nvme {}: its namespaces have changed", self.address);
                    events.namespaces_changed = true;
                }
                AsyncEvent::TYPE_COMMAND_SET
                    if event.info() == AsyncEvent::COMMAND_SET_SANITIZED =>
                {
                    events.sanitized = true;
                }
                AsyncEvent::TYPE_HEALTH | AsyncEvent::TYPE_ERROR => {
                    let (kind, info) = (event.kind(), event.info());
                    log::warn!("nvme {}: event of type {kind}, {info:#04x}", self.address);
                }
                kind => log::info!("nvme {}: event of type {kind}: {event:?}", self.address),
            }
            self.clear_event(event).await?;
            self.request_event()?;
        }
        Ok(events)
    }

    /// Reading the page lets the controller report the next event of its kind.
    async fn clear_event(&self, event: AsyncEvent) -> Result<(), AdminError> {
        let page = LogPageId(event.log_page());
        let bytes = match page {
            LogPageId::ERROR_INFORMATION => size_of::<ErrorEntry>(),
            LogPageId::SMART_HEALTH => size_of::<SmartHealth>(),
            LogPageId::FIRMWARE_SLOT => size_of::<FirmwareSlots>(),
            LogPageId::SANITIZE_STATUS => size_of::<SanitizeStatus>(),
            LogPageId::CHANGED_NAMESPACES => size_of::<NamespaceList>(),
            // Nothing to read, or nothing we know the length of.
            _ => return Ok(()),
        };
        match self.log_page(page, NSID_ALL, 0, bytes as u32).await {
            // A controller that tells of a page and does not have it has told all it can.
            Ok(_) | Err(AdminError::Status(_)) => Ok(()),
            Err(error) => Err(error),
        }
    }
}
