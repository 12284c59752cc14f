//! What the points of the mesh are called: lips, lids, brows, the outline, and single ones.
//!
//! In here: indices. Left and right are those of the picture, not the person's. After MediaPipe's
//! `face_landmarks_connections` (Apache-2.0).

/// The upper lip's inner edge from the left corner of the opening to the right one.
pub const UPPER_LIP_INNER: [usize; 11] = [78, 191, 80, 81, 82, 13, 312, 311, 310, 415, 308];
/// The lower lip's inner edge between the same corners.
pub const LOWER_LIP_INNER: [usize; 11] = [78, 95, 88, 178, 87, 14, 317, 402, 318, 324, 308];
/// The upper lip's outer edge from the left corner of the mouth to the right one.
pub const UPPER_LIP_OUTER: [usize; 11] = [61, 185, 40, 39, 37, 0, 267, 269, 270, 409, 291];
/// The lower lip's outer edge between the same corners.
pub const LOWER_LIP_OUTER: [usize; 11] = [61, 146, 91, 181, 84, 17, 314, 405, 321, 375, 291];
/// The left eye's upper lid from the outer corner to the inner one.
pub const LEFT_UPPER_LID: [usize; 9] = [33, 246, 161, 160, 159, 158, 157, 173, 133];
/// The left eye's lower lid between the same corners.
pub const LEFT_LOWER_LID: [usize; 9] = [33, 7, 163, 144, 145, 153, 154, 155, 133];
/// The right eye's upper lid from the outer corner to the inner one.
pub const RIGHT_UPPER_LID: [usize; 9] = [263, 466, 388, 387, 386, 385, 384, 398, 362];
/// The right eye's lower lid between the same corners.
pub const RIGHT_LOWER_LID: [usize; 9] = [263, 249, 390, 373, 374, 380, 381, 382, 362];
/// The left brow's lower edge, outside first.
pub const LEFT_BROW: [usize; 5] = [46, 53, 52, 65, 55];
/// The right brow's lower edge, outside first.
pub const RIGHT_BROW: [usize; 5] = [276, 283, 282, 295, 285];
/// The outline of the face, clockwise from the top of the forehead; the last goes on to the first.
pub const OUTLINE: [usize; 36] = [
    10, 338, 297, 332, 284, 251, 389, 356, 454, 323, 361, 288, 397, 365, 379, 378, 400, 377, 152, 148, 176, 149, 150,
    136, 172, 58, 132, 93, 234, 127, 162, 21, 54, 103, 67, 109,
];
/// Outer corners of the eyes, left and right.
pub const OUTER_EYE_CORNERS: [usize; 2] = [33, 263];
/// Inner corners of the eyes, left and right.
pub const INNER_EYE_CORNERS: [usize; 2] = [133, 362];
/// Corners of the mouth, left and right.
pub const MOUTH_CORNERS: [usize; 2] = [61, 291];
/// The tip of the nose.
pub const NOSE_TIP: usize = 1;
/// Where the nose meets the upper lip.
pub const NOSE_BASE: usize = 2;
/// The lowest point of the chin.
pub const CHIN: usize = 152;
/// The outline's points at the level of the cheekbones, left and right.
pub const CHEEKS: [usize; 2] = [234, 454];
