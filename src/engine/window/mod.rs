//! Results become tiles, tiles become windows.

/// All windows of one segment.
#[derive(Clone, Debug)]
pub struct SegmentWindows {}
