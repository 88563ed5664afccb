//! The rules of the format, by name.

use crate::checker::rules;
use crate::vpc::layout::sections;

rules! {
    /// The footer begins with its cookie.
    FOOTER_COOKIE = Must, sections::FOOTER, "signature";
    /// Footer or copy have their checksum.
    FOOTER_VALID = Must, sections::FOOTER, "footer";
    /// The footer has its checksum.
    FOOTER_CHECKSUM = Should, sections::FOOTER, "footer-checksum";
    /// The copy at the start of the file is one.
    FOOTER_COPY = Should, sections::FOOTER, "footer-copy";
    /// Images that are not fixed have the copy, and fixed ones do not.
    FOOTER_COPY_THERE = Should, sections::FOOTER, "footer-copy-there";
    /// The reserved feature is set, and no unknown one.
    FEATURES = Should, sections::FOOTER, "features";
    /// The major version is 1.
    VERSION = Must, sections::FOOTER, "version";
    /// The minor version is 0.
    MINOR_VERSION = Should, sections::FOOTER, "minor-version";
    /// The footer leads to the dynamic header.
    DATA_OFFSET = Must, sections::FOOTER, "data-offset";
    /// The footer of a fixed image leads nowhere.
    DATA_OFFSET_UNUSED = Should, sections::FOOTER, "data-offset-unused";
    /// The type is one of three.
    TYPE = Must, sections::FOOTER, "type";
    /// The disk consists of sectors.
    SIZE_UNIT = Should, sections::FOOTER, "current-size-unit";
    /// The disk has at most 2040 GiB.
    SIZE = Should, sections::FOOTER, "current-size";
    /// The geometry is one, and not larger than the disk.
    GEOMETRY = Should, sections::GEOMETRY, "geometry";
    /// The saved state is a flag.
    SAVED_STATE = Should, sections::FOOTER, "saved-state";
    /// Reserved bytes are zeros.
    FOOTER_RESERVED = Should, sections::FOOTER, "footer-reserved";
    /// The data of a fixed image is before its footer.
    FIXED_INSIDE = Must, sections::FIXED, "fixed-inside-file";
    /// A fixed image has nothing but its data and the footer.
    FIXED_LENGTH = Should, sections::FIXED, "fixed-length";
    /// The dynamic header has its checksum.
    DYNAMIC_CHECKSUM = Should, sections::DYNAMIC, "dynamic-checksum";
    /// The next structure of the dynamic header is none.
    DYNAMIC_DATA_OFFSET = Should, sections::DYNAMIC, "dynamic-data-offset";
    /// The major version of the dynamic header is 1.
    DYNAMIC_VERSION = Must, sections::DYNAMIC, "dynamic-version";
    /// The block size is a power of two and at least a sector.
    BLOCK_SIZE = Must, sections::DYNAMIC, "block-size";
    /// The table has an entry for each block.
    TABLE_ENTRIES = Must, sections::DYNAMIC, "max-table-entries";
    /// The table is within the file.
    TABLE_INSIDE = Must, sections::DYNAMIC, "table-inside-file";
    /// The table begins with a sector.
    TABLE_ALIGNED = Should, sections::DYNAMIC, "table-aligned";
    /// Reserved fields are zeros.
    DYNAMIC_RESERVED = Should, sections::DYNAMIC, "dynamic-reserved";
    /// The platform of a locator is known.
    LOCATOR_CODE = Should, sections::LOCATORS, "locator-platform";
    /// A locator's name fits into its space, within the file.
    LOCATOR_INSIDE = Should, sections::LOCATORS, "locator-inside-file";
    /// The reserved field of a locator is 0.
    LOCATOR_RESERVED = Should, sections::LOCATORS, "locator-reserved";
    /// A differencing image names its parent.
    PARENT_NAME = Must, sections::PARENT, "parent-name";
    /// A differencing image identifies its parent.
    PARENT_UUID = Should, sections::PARENT, "parent-uuid";
    /// A block is within the file.
    BLOCK_INSIDE = Must, sections::BAT, "block-inside-file";
    /// Headers, table, names, blocks and footer do not overlap.
    OVERLAP = Should, sections::BAT, "overlap";
}
