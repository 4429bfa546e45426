//! Reads what a guest shows on its screen.

use std::path::Path;

use noto_sans_mono_bitmap::{FontWeight, RasterHeight, get_raster, get_raster_width};
use serde_json::json;

use crate::Monitor;

const WEIGHT: FontWeight = FontWeight::Regular;
const HEIGHT: RasterHeight = RasterHeight::Size16;

/// A picture of the screen in shades of grey.
struct Picture {
    width: usize,
    pixels: Vec<u8>,
}

impl Monitor {
    /// The lines of text on the screen, from top to bottom. What is no letter of Basalt's is left
    /// out.
    ///
    /// # Panics
    /// QEMU gives no picture of it.
    pub fn screen_text(&mut self) -> Vec<String> {
        let file = match tempfile::NamedTempFile::new() {
            Ok(file) => file,
            Err(error) => panic!("no place for a picture: {error}"),
        };
        self.execute("screendump", &json!({"filename": file.path()}));
        Picture::read(file.path()).lines()
    }
}

impl Picture {
    /// Of a file in binary PPM with 8 bits a colour.
    fn read(path: &Path) -> Self {
        let bytes = std::fs::read(path).unwrap_or_default();
        let mut rest = bytes.as_slice();
        let mut word = || {
            let len = rest.iter().position(u8::is_ascii_whitespace).unwrap_or(rest.len());
            let (word, behind) = rest.split_at(len);
            rest = behind.get(1..).unwrap_or_default();
            String::from_utf8_lossy(word).into_owned()
        };
        let head = [word(), word(), word(), word()];
        assert!(head[0] == "P6" && head[3] == "255", "not the picture of a screen: {head:?}");
        let width = head[1].parse().unwrap_or_default();
        Self { width, pixels: rest.iter().copied().step_by(3).collect() }
    }

    fn lines(&self) -> Vec<String> {
        let (cell_width, cell_height) = (get_raster_width(WEIGHT, HEIGHT), HEIGHT.val());
        let rows = self.pixels.len() / self.width / cell_height;
        let columns = self.width / cell_width;
        let letter = |row, column| self.letter(row * cell_height, column * cell_width);
        let line = |row| (0..columns).filter_map(|column| letter(row, column)).collect::<String>();
        (0..rows).map(|row| line(row).trim_end().to_owned()).collect()
    }

    /// The letter whose upper left corner is there, if it is one.
    fn letter(&self, top: usize, left: usize) -> Option<char> {
        let shows = |letter: &char| {
            let Some(raster) = get_raster(*letter, WEIGHT, HEIGHT) else { return false };
            raster.rows().enumerate().all(|(line, shades)| {
                let start = (top + line) * self.width + left;
                self.pixels.get(start..start + shades.len()) == Some(shades)
            })
        };
        (' '..='~').find(shows)
    }
}
