//! The colours of the demo character.
//!
//! Inside the mouth crop they also carry meaning for `measure`: skin and lips have more green than blue, the cavity
//! and the tongue more blue than green, and only teeth are nearly grey.

use super::canvas::Rgba;

const fn rgb(hex: u32) -> Rgba {
    let [_, r, g, b] = hex.to_be_bytes();
    Rgba(r, g, b, 1.0)
}

pub const WALL_LIGHT: Rgba = rgb(0xe4f0ee);
pub const WALL: Rgba = rgb(0xbfdad9);
pub const WALL_DARK: Rgba = rgb(0x86b0b4);

pub const SKIN_LIGHT: Rgba = rgb(0xffdcbd);
pub const SKIN: Rgba = rgb(0xf6c5a0);
pub const SKIN_SHADE: Rgba = rgb(0xdb9670);
pub const SKIN_DEEP: Rgba = rgb(0xb0654a);
pub const NECK: Rgba = rgb(0xe9b08a);
pub const BLUSH: Rgba = rgb(0xf08468);

pub const LIP_UPPER: Rgba = rgb(0xbd5048);
pub const LIP_LOWER: Rgba = rgb(0xd5695c);
pub const LIP_SEAM: Rgba = rgb(0x8c3a32);
pub const LIP_SHINE: Rgba = rgb(0xffd2c0);

pub const CAVITY: Rgba = rgb(0x5c1230);
pub const CAVITY_DEEP: Rgba = rgb(0x2c0618);
pub const TONGUE: Rgba = rgb(0xc05078);
pub const TONGUE_DARK: Rgba = rgb(0x7c2450);
pub const TEETH: Rgba = rgb(0xfaf6f7);
pub const TEETH_SHADE: Rgba = rgb(0xc4b6c0);

pub const HAIR_LIGHT: Rgba = rgb(0xcf7a45);
pub const HAIR: Rgba = rgb(0x8f4527);
pub const HAIR_DARK: Rgba = rgb(0x5a2618);
pub const HAIR_DEEP: Rgba = rgb(0x3a1711);

pub const BROW: Rgba = rgb(0x6b3320);
pub const LASH: Rgba = rgb(0x2e1512);
pub const EYE_WHITE: Rgba = rgb(0xfffaf6);
pub const EYE_SHADE: Rgba = rgb(0xc9b8b8);
pub const IRIS_LIGHT: Rgba = rgb(0x8fc07a);
pub const IRIS: Rgba = rgb(0x3f8a63);
pub const IRIS_DARK: Rgba = rgb(0x174537);
pub const PUPIL: Rgba = rgb(0x0d1a18);

pub const KNIT_LIGHT: Rgba = rgb(0xf3bb52);
pub const KNIT: Rgba = rgb(0xe39b34);
pub const KNIT_DARK: Rgba = rgb(0xb0661f);
pub const COLLAR: Rgba = rgb(0xfbf8f1);
pub const COLLAR_SHADE: Rgba = rgb(0xc7cdd0);
pub const WHITE: Rgba = rgb(0xffffff);
pub const GOLD: Rgba = rgb(0xf2cf72);
