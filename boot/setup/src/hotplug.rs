//! Drives that come and go while the machine runs.

use core::time::Duration;

use basalt_pci::hotplug::{Event, Slot};
use basalt_pci::{Addresses, Function};
use basalt_reactor::Local;

use crate::devices::{Firmware, Slots, virtio_disk_kind};
use crate::drives::Drives;
use crate::virtio_disks::VirtioDisks;

/// How often the slots are looked at.
const PERIOD: Duration = Duration::from_millis(100);
/// How long a device may take to answer once it has power (PCI Express Base 5.0 §6.6.1: a second),
/// and how often that is tried.
const ANSWER_PATIENCE: Duration = Duration::from_secs(2);
const ANSWER_PERIOD: Duration = Duration::from_millis(20);

/// What the watch over the slots needs.
pub struct Watch {
    pub firmware: Firmware,
    pub addresses: Addresses,
    pub slots: Slots,
}

/// Watches the machine's slots, if it has any.
pub fn start(local: &Local, watch: Watch) {
    if watch.slots.is_empty() {
        return;
    }
    log::info!(target: "pci", "drives may come and go: {}", watch.slots);
    local.spawn("hotplug", watch.run(local.clone()));
}

impl Watch {
    async fn run(mut self, local: Local) {
        loop {
            for event in self.slots.poll() {
                local.mesh().unsettle();
                self.see_to(&local, event).await;
                local.mesh().settle();
            }
            local.sleep(PERIOD).await;
        }
    }

    async fn see_to(&mut self, local: &Local, event: Event) {
        match event {
            Event::Leaving(slot) => {
                log::info!(target: "pci", "{slot}: its device is to go");
                self.let_go(local, slot).await;
                self.slots.eject(slot);
                log::info!(target: "pci", "{slot}: its device may be taken out");
            }
            Event::Gone(slot) => {
                log::warn!(target: "pci", "{slot}: its device was taken out unasked");
                self.let_go(local, slot).await;
            }
            Event::Arrived(slot) => {
                log::info!(target: "pci", "{slot}: a device was put in");
                // Of what was there before, nothing is left.
                self.let_go(local, slot).await;
                self.slots.power_on(slot);
                self.wait_for_answer(local, slot).await;
                for function in slot.functions(&self.firmware.config) {
                    self.take(local, function).await;
                }
            }
        }
    }

    async fn let_go(&mut self, local: &Local, slot: Slot) {
        let mut all = Drives::remove(local, |address| slot.holds(address)).await;
        all.extend(VirtioDisks::remove(local, |address| slot.holds(address)).await);
        for gone in all {
            let requesters = self.addresses.requesters(&self.firmware.config, gone);
            self.firmware.guard.deny(&requesters);
        }
        self.addresses.forget(|address| slot.holds(address));
    }

    async fn wait_for_answer(&self, local: &Local, slot: Slot) {
        let late = local.now() + ANSWER_PATIENCE;
        while slot.functions(&self.firmware.config).is_empty() {
            if local.now() >= late {
                log::error!(target: "pci", "{slot}: its device does not answer; it is left out");
                return;
            }
            local.sleep(ANSWER_PERIOD).await;
        }
    }

    /// Uses a function that has come, if it is a drive.
    async fn take(&mut self, local: &Local, function: Function) {
        let is_virtio_disk = virtio_disk_kind(&function).is_some();
        if !function.is_nvme() && !is_virtio_disk {
            log::warn!(target: "pci", "{function}: only drives can come while the machine runs");
            return;
        }
        if let Err(error) = self.addresses.assign(&self.firmware.config, &function) {
            log::error!(target: "pci", "{function}: {error}; it is left out");
            return;
        }
        if !self.firmware.allow(&self.addresses, &function) {
            return;
        }
        if is_virtio_disk {
            return VirtioDisks::add(local, function);
        }
        Drives::add(local, function).await;
    }
}
