#![expect(unsafe_code, reason = "the frame buffer is raw memory; DESIGN §5 places it here")]

//! The screen: text on the frame buffer that firmware leaves behind (UEFI 2.10 §12.9).
//!
//! Lines go from top to bottom and from there to the top again, with an empty line below the last
//! one. Nothing scrolls, as reading a frame buffer is slow, and nothing is remembered. Text is
//! grey, so that it does not matter which byte of a pixel is which colour.

use core::sync::atomic::{AtomicBool, AtomicU32, Ordering};

use bootloader_api::info::{FrameBuffer, PixelFormat};
use noto_sans_mono_bitmap::{
    FontWeight, RasterHeight, RasterizedChar, get_raster, get_raster_width,
};
use spin::Once;

use crate::memory::Span;

const WEIGHT: FontWeight = FontWeight::Regular;
const HEIGHT: RasterHeight = RasterHeight::Size16;
/// Of a character, pixels.
const CELL_WIDTH: usize = get_raster_width(WEIGHT, HEIGHT);
const CELL_HEIGHT: usize = HEIGHT.val();
const PIXEL_LEN: usize = 4;
/// Shown for what the letters lack.
const SUBSTITUTE: char = '?';

static SCREEN: Once<Screen> = Once::new();
static CLOSED: AtomicBool = AtomicBool::new(false);

struct Screen {
    /// Where the frame buffer is.
    base: usize,
    /// Bytes from one line of pixels to the next.
    pitch: usize,
    /// Size in characters.
    columns: usize,
    rows: usize,
    /// The next character's row (upper half) and column. Whoever has the console changes it.
    cursor: AtomicU32,
}

/// Where the frame buffer is, if text can be written to it.
pub(crate) fn span_of(frame: &FrameBuffer) -> Option<Span> {
    let info = frame.info();
    let known = matches!(info.pixel_format, PixelFormat::Rgb | PixelFormat::Bgr);
    let fits = info.stride.checked_mul(PIXEL_LEN)?.checked_mul(info.height)? <= info.byte_len;
    let sane =
        info.width <= info.stride && info.width / CELL_WIDTH > 0 && info.height > CELL_HEIGHT;
    if !known || !fits || !sane || info.bytes_per_pixel != PIXEL_LEN {
        return None;
    }
    let start = frame.buffer().as_ptr() as u64;
    Some(Span::new(start, info.byte_len as u64)).filter(|span| span.start % 4 == 0)
}

/// Clears the screen and writes to it from now on.
///
/// # Safety
/// The frame buffer is mapped where it is, for good.
pub(crate) unsafe fn init(frame: &FrameBuffer) {
    let Some(span) = span_of(frame) else { return };
    let info = frame.info();
    if SCREEN.is_completed() {
        return;
    }
    let screen = SCREEN.call_once(|| Screen {
        base: span.start as usize,
        pitch: info.stride * PIXEL_LEN,
        columns: info.width / CELL_WIDTH,
        rows: info.height / CELL_HEIGHT,
        cursor: AtomicU32::new(0),
    });
    (0..screen.rows).for_each(|row| screen.clear(row));
}

/// Writes to it no more: it cannot be mapped.
pub(crate) fn close() {
    CLOSED.store(true, Ordering::Relaxed);
}

/// Writes `text`, if there is a screen. Whoever calls it has the console.
pub(crate) fn write(text: &str) {
    let Some(screen) = SCREEN.get().filter(|_| !CLOSED.load(Ordering::Relaxed)) else { return };
    let cursor = screen.cursor.load(Ordering::Relaxed);
    let (mut row, mut column) = ((cursor >> 16) as usize, (cursor & 0xffff) as usize);
    for letter in text.chars() {
        if letter == '\n' || column >= screen.columns {
            row = (row + 1) % screen.rows;
            column = 0;
            screen.clear(row);
            screen.clear((row + 1) % screen.rows);
        }
        if letter != '\n' {
            screen.draw(row, column, letter);
            column += 1;
        }
    }
    screen.cursor.store((row as u32) << 16 | column as u32, Ordering::Relaxed);
}

impl Screen {
    fn draw(&self, row: usize, column: usize, letter: char) {
        let raster = |letter| get_raster(letter, WEIGHT, HEIGHT);
        let Some(raster) = raster(letter).or_else(|| raster(SUBSTITUTE)) else { return };
        for (line, shades) in RasterizedChar::rows(&raster).enumerate() {
            for (at, &shade) in shades.iter().take(CELL_WIDTH).enumerate() {
                let shade = u32::from(shade) * 0x01_0101;
                self.put(row * CELL_HEIGHT + line, column * CELL_WIDTH + at, shade);
            }
        }
    }

    fn clear(&self, row: usize) {
        for line in row * CELL_HEIGHT..(row + 1) * CELL_HEIGHT {
            (0..self.columns * CELL_WIDTH).for_each(|at| self.put(line, at, 0));
        }
    }

    fn put(&self, line: usize, at: usize, pixel: u32) {
        let address = self.base + line * self.pitch + at * PIXEL_LEN;
        // SAFETY: `init`'s caller mapped the frame buffer, which belongs to this module alone, and
        // rows and columns are as many as fit into it (`span_of`).
        unsafe { (address as *mut u32).write_volatile(pixel) };
    }
}
