#![expect(unsafe_code, reason = "walks the stack")]

//! Who called whom: the chain of frame pointers, with names where the image carries them.

use core::arch::asm;

use crate::console::print_in_emergency as print;
use crate::{image, stack, symbols};

const DEPTH_MAX: usize = 64;

/// The caller's frame pointer.
#[inline(always)]
pub(crate) fn frame_pointer() -> u64 {
    let pointer: u64;
    // SAFETY: reads a register.
    unsafe { asm!("mov {}, rbp", out(reg) pointer, options(nomem, nostack, preserves_flags)) };
    pointer
}

/// Prints one line for `at`, if given, then one for each frame from `frame_pointer` outwards.
///
/// Touches only memory of known stacks, so it can be used whatever state the core is in.
pub(crate) fn print_from(at: Option<u64>, frame_pointer: u64) {
    print(format_args!("backtrace (innermost first):\n"));
    let mut depth = 0;
    if let Some(address) = at {
        print_frame(depth, address);
        depth += 1;
    }
    let mut pointer = frame_pointer;
    while let Some((caller_frame, return_address)) = frame_at(pointer) {
        if return_address == 0 || depth >= DEPTH_MAX {
            break;
        }
        // A return address is behind the call, which may be the last instruction of a function.
        print_frame(depth, return_address - 1);
        depth += 1;
        if caller_frame <= pointer {
            break;
        }
        pointer = caller_frame;
    }
}

/// The two words that a function's prologue leaves at its frame pointer.
fn frame_at(pointer: u64) -> Option<(u64, u64)> {
    let stack = stack::containing(pointer)?;
    if !pointer.is_multiple_of(8) || stack.end - pointer < 16 {
        return None;
    }
    // SAFETY: both words lie in a mapped stack; a stack holds plain words.
    Some(unsafe { *(pointer as *const (u64, u64)) })
}

fn print_frame(depth: usize, address: u64) {
    // As the linker knows it, wherever the image was loaded.
    let linked = address.wrapping_sub(image::base()).wrapping_add(image::LINK_BASE);
    match symbols::find(address) {
        Some((name, offset)) => print(format_args!("{depth:4}: {linked:#x} {name}+{offset:#x}\n")),
        None => print(format_args!("{depth:4}: {linked:#x}\n")),
    }
}
