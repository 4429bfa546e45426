//! Basalt, and nothing else.
#![no_std]
#![no_main]

basalt_image::application!(basalt_image::NO_APPLICATION);
