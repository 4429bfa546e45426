#![expect(unsafe_code, reason = "called by firmware; DESIGN §5 places the entries here")]

//! The image as a UEFI application (UEFI 2.10 §4.1).
//!
//! 1. Firmware loads and relocates the image and calls [`uefi_main`] in 64-bit mode, on its own
//!    stack, with its own page tables.
//! 2. [`firmware`] asks it for what Basalt needs, and takes the machine over from it.
//! 3. [`memory`] turns its memory map into the kernel's regions.
//! 4. [`takeover`] leaves its stack, page tables and segments for the image's own.

mod firmware;
mod memory;
mod takeover;

use core::arch::global_asm;

use bootloader_api::BootInfo;
use bootloader_api::info::Optional;
use uefi_raw::table::system::SystemTable;
use uefi_raw::{Handle, Status};

use super::handover::{self, REGIONS_MAX};
use firmware::{Firmware, Refusal};

/// The configuration file, in the root of the file system that the image came from. UTF-16.
const CONFIG_FILE: &[u16] = &utf16(*b"\\basalt.json\0");

// Tells the runner, which makes the UEFI application of the image, where to enter it: a note of
// owner `Basalt`, type 1. Writable for the same reason as the PVH note.
global_asm!(
    ".pushsection .note.uefi, \"aw\", @note",
    ".balign 4",
    ".long 7, 8, 1",
    ".asciz \"Basalt\"",
    ".balign 4",
    ".quad {entry}",
    ".popsection",
    entry = sym uefi_main,
);

const fn utf16<const N: usize>(text: [u8; N]) -> [u16; N] {
    let mut wide = [0; N];
    let mut at = 0;
    while at < N {
        wide[at] = text[at] as u16;
        at += 1;
    }
    wide
}

/// What firmware calls. Returns to it if the machine cannot be taken over, having said why (as well
/// as it still can, if it was firmware that did not let go).
unsafe extern "efiapi" fn uefi_main(image: Handle, table: *const SystemTable) -> Status {
    // SAFETY: firmware passes its own table, and the handle of this image.
    let Some(firmware) = (unsafe { Firmware::new(image, table) }) else {
        return Status::INVALID_PARAMETER;
    };
    match leave(&firmware) {
        Ok(info) => takeover::run(info),
        Err(refusal) => {
            firmware.print("Basalt does not start: ");
            firmware.print(refusal.reason);
            firmware.print("\r\n");
            refusal.status
        }
    }
}

/// Takes from firmware what the kernel needs, and ends its services.
fn leave(firmware: &Firmware) -> Result<&'static mut BootInfo, Refusal> {
    takeover::check()?;
    let config = firmware.read_file(CONFIG_FILE)?;
    let (rsdp, frame_buffer) = (firmware.rsdp(), firmware.frame_buffer());
    let map = firmware.exit_boot_services(REGIONS_MAX)?;
    // SAFETY: called once: there is no way back from here. Firmware left the other cores halted.
    let info = unsafe { handover::prepare(|regions| memory::convert(map.descriptors(), regions)) };
    info.rsdp_addr = rsdp.into();
    info.framebuffer = frame_buffer.into();
    if let Some(config) = config {
        info.ramdisk_addr = Optional::Some(config.as_ptr() as u64);
        info.ramdisk_len = config.len() as u64;
    }
    Ok(info)
}
