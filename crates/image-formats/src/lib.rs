//! Disk-image formats as data: decode, inspect, change, encode.
