//! What goes on by itself once it was begun: self-tests and sanitizing.

use basalt_nvme_spec::identify::Oacs;
use basalt_nvme_spec::log_page::{SanitizeStatus, SelfTestLog, SelfTestResult};
use basalt_nvme_spec::manage::SanitizeCapabilities;
use basalt_nvme_spec::{AsyncEvent, Command, LogPageId, NSID_ALL, Status};
use zerocopy::IntoBytes;
use zerocopy::little_endian::{U16, U32};

use crate::nvme::state::State;

/// Bits 3:0 of a self-test: short, and what ends one.
const SHORT: u8 = 1;
const EXTENDED: u8 = 2;
const ABORT: u8 = 0xf;

/// A self-test under way.
#[derive(Clone, Copy)]
pub(super) struct Testing {
    code: u8,
    nsid: u32,
    left: u32,
}

/// Where a sanitize operation stands.
#[derive(Default)]
pub(super) struct Sanitizing {
    /// Steps left, if one is under way.
    left: Option<u32>,
    cdw10: u32,
    /// With what it ends.
    fill: [u8; 4],
    state: u8,
}

impl State {
    pub(super) fn self_test(&mut self, command: &Command) -> Result<u32, Status> {
        self.offers(Oacs::SELF_TEST)?;
        let (code, nsid) = (command.cdw10.get() as u8 & 0xf, command.nsid.get());
        if nsid != 0 && nsid != NSID_ALL && self.namespace(nsid).is_none() {
            return Err(Status::INVALID_NAMESPACE.with_dnr());
        }
        match code {
            ABORT => self.end_test(SelfTestResult::ABORTED),
            SHORT | EXTENDED if self.managed.testing.is_some() => {
                return Err(Status::SELF_TEST_IN_PROGRESS);
            }
            SHORT | EXTENDED => {
                let left = self.config.manage.steps;
                self.managed.testing = Some(Testing { code, nsid, left });
            }
            _ => return Err(Status::INVALID_FIELD.with_dnr()),
        }
        Ok(0)
    }

    pub(super) fn step_test(&mut self) {
        let Some(testing) = &mut self.managed.testing else { return };
        testing.left = testing.left.saturating_sub(1);
        if testing.left == 0 {
            self.end_test(SelfTestResult::PASSED);
        }
    }

    /// A short test does not survive a reset.
    pub(super) fn reset_test(&mut self) {
        if self.managed.testing.is_some_and(|testing| testing.code == SHORT) {
            self.end_test(SelfTestResult::ABORTED_BY_RESET);
        }
    }

    fn end_test(&mut self, outcome: u8) {
        let Some(Testing { code, nsid, .. }) = self.managed.testing.take() else { return };
        let power_on_hours = self.power_on_hours();
        let status = code << 4 | outcome;
        let nsid = U32::new(nsid);
        let result = SelfTestResult { status, power_on_hours, nsid, ..SelfTestResult::default() };
        self.managed.results.truncate(19);
        self.managed.results.push_front(result);
    }

    pub(in crate::nvme) fn self_test_page(&self) -> Result<Vec<u8>, Status> {
        self.offers(Oacs::SELF_TEST).map_err(|_| Status::INVALID_LOG_PAGE.with_dnr())?;
        let mut log = SelfTestLog::default();
        if let Some(Testing { code, left, .. }) = self.managed.testing {
            log.current = code;
            log.completion = (100 - 100 * left / self.config.manage.steps.max(1)) as u8;
        }
        log.results.iter_mut().for_each(|result| result.status = SelfTestResult::UNUSED);
        for (entry, result) in log.results.iter_mut().zip(&self.managed.results) {
            *entry = *result;
        }
        Ok(log.as_bytes().to_vec())
    }

    pub(super) fn sanitize(&mut self, command: &Command) -> Result<u32, Status> {
        let (offered, cdw10) = (self.config.manage.sanicap, command.cdw10.get());
        if offered.is_empty() {
            return Err(Status::INVALID_OPCODE.with_dnr());
        }
        if self.managed.sanitizing.left.is_some() {
            return Err(Status::SANITIZE_IN_PROGRESS);
        }
        let (needed, pattern) = match cdw10 & 7 {
            1 => {
                let sanitizing = &mut self.managed.sanitizing;
                sanitizing.state = if sanitizing.state == SanitizeStatus::FAILED {
                    SanitizeStatus::NEVER
                } else {
                    sanitizing.state
                };
                return Ok(0);
            }
            2 => (SanitizeCapabilities::BLOCK_ERASE, 0),
            3 => (SanitizeCapabilities::OVERWRITE, command.cdw11.get()),
            4 => (SanitizeCapabilities::CRYPTO_ERASE, 0),
            _ => return Err(Status::INVALID_FIELD.with_dnr()),
        };
        if !offered.contains(needed) {
            return Err(Status::INVALID_FIELD.with_dnr());
        }
        self.end_test(SelfTestResult::ABORTED);
        // Deallocated blocks are zeroes, whatever they were overwritten with.
        let keeps = cdw10 & 1 << 9 != 0;
        self.managed.sanitizing = Sanitizing {
            left: Some(self.config.manage.steps),
            cdw10,
            fill: if keeps { pattern.to_le_bytes() } else { [0; 4] },
            state: SanitizeStatus::IN_PROGRESS,
        };
        Ok(0)
    }

    pub(super) fn step_sanitizing(&mut self) {
        let Some(left) = &mut self.managed.sanitizing.left else { return };
        *left = left.saturating_sub(1);
        if *left > 0 {
            return;
        }
        self.managed.sanitizing.left = None;
        self.managed.sanitizing.state = SanitizeStatus::DONE;
        let fill = self.managed.sanitizing.fill;
        for namespace in self.all_namespaces() {
            namespace.erase();
            namespace.data.iter_mut().zip(fill.into_iter().cycle()).for_each(|(to, by)| *to = by);
        }
        let (kind, info) = (AsyncEvent::TYPE_COMMAND_SET, AsyncEvent::COMMAND_SET_SANITIZED);
        self.raise_event(AsyncEvent::new(kind, info, LogPageId::SANITIZE_STATUS.0));
    }

    /// Whether commands may be done that a sanitize operation bars.
    pub(in crate::nvme) fn check_sanitized(&self) -> Result<(), Status> {
        match self.managed.sanitizing.left {
            Some(_) => Err(Status::SANITIZE_IN_PROGRESS),
            None => Ok(()),
        }
    }

    pub(in crate::nvme) fn sanitize_page(&self) -> Result<Vec<u8>, Status> {
        let steps = self.config.manage.steps.max(1);
        if self.config.manage.sanicap.is_empty() {
            return Err(Status::INVALID_LOG_PAGE.with_dnr());
        }
        let Sanitizing { left, cdw10, state, .. } = self.managed.sanitizing;
        let done = left.map_or(0xffff, |left| 0xffff - 0xffff * u64::from(left) / u64::from(steps));
        let page = SanitizeStatus {
            progress: U16::new(done as u16),
            status: U16::new(state.into()),
            cdw10: U32::new(cdw10),
            seconds: [U32::new(1); 3],
            seconds_without_deallocation: [U32::new(u32::MAX); 3],
            ..SanitizeStatus::default()
        };
        Ok(page.as_bytes().to_vec())
    }
}
