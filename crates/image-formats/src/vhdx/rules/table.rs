//! The rules of the format, by name.

use crate::checker::rules;
use crate::vhdx::layout::sections;

rules! {
    /// The file begins with the signature.
    IS_VHDX = Must, sections::IDENTIFIER, "signature";
    /// One header is current.
    CURRENT_HEADER = Must, sections::HEADERS, "current-header";
    /// A header has its signature.
    HEADER_SIGNATURE = Should, sections::HEADERS, "header-signature";
    /// A header has its checksum.
    HEADER_CHECKSUM = Should, sections::HEADERS, "header-checksum";
    /// One header is newer than the other.
    HEADER_SEQUENCE = Should, sections::HEADERS, "header-sequence-numbers";
    /// The reserved bytes of a header are zeros.
    HEADER_RESERVED = Should, sections::HEADERS, "header-reserved";
    /// The version is 1.
    VERSION = Must, sections::HEADERS, "version";
    /// The version of a log that is to be replayed is 0.
    LOG_VERSION = Must, sections::HEADERS, "log-version";
    /// The log begins and ends at a multiple of 1 MiB, behind the headers.
    LOG_ALIGNED = Must, sections::HEADERS, "log-aligned";
    /// The log is within the file.
    LOG_INSIDE = Must, sections::HEADERS, "log-inside-file";
    /// A log that is to be replayed has a valid sequence of entries.
    LOG_SEQUENCE = Must, sections::REPLAY, "log-sequence";
    /// The file is as long as the log says that it was.
    LOG_FILE_SIZE = Must, sections::REPLAY, "log-file-size";
    /// An entry of the log has its checksum.
    LOG_CHECKSUM = Should, sections::LOG_HEADER, "log-checksum";
    /// All parts of a log entry have its sequence number.
    LOG_SEQUENCE_NUMBERS = Should, sections::LOG_DESCRIPTOR, "log-sequence-numbers";
    /// The parts of a log entry are within it, and aligned.
    LOG_ENTRY = Should, sections::LOG_HEADER, "log-entry";
    /// The reserved fields of a log entry are zeros.
    LOG_RESERVED = Should, sections::LOG_HEADER, "log-reserved";
    /// The file sizes in a log entry are multiples of 1 MiB.
    LOG_SIZES = Should, sections::LOG_HEADER, "log-file-size-unit";
    /// A descriptor is one of zeros or of data.
    LOG_DESCRIPTOR = Should, sections::LOG_DESCRIPTOR, "log-descriptor";
    /// The log writes neither headers nor itself.
    LOG_TARGET = Should, sections::LOG, "log-target";
    /// One of the region tables has signature and checksum.
    REGION_TABLE = Must, sections::REGION_HEADER, "region-table";
    /// A region table has its signature.
    REGION_SIGNATURE = Should, sections::REGION_HEADER, "region-table-signature";
    /// A region table has its checksum.
    REGION_CHECKSUM = Should, sections::REGION_HEADER, "region-table-checksum";
    /// The region tables are the same.
    REGION_COPY = Should, sections::REGION_HEADER, "region-table-copy";
    /// There are at most 2047 regions.
    REGION_COUNT = Must, sections::REGION_HEADER, "region-count";
    /// The reserved field of the region table is 0.
    REGION_RESERVED = Should, sections::REGION_HEADER, "region-table-reserved";
    /// A region is there once.
    REGION_UNIQUE = Must, sections::REGION_ENTRY, "region-once";
    /// There is a BAT region and a metadata region.
    REGION_MISSING = Must, sections::REGION_ENTRY, "region-missing";
    /// A region begins at a multiple of 1 MiB, behind the headers.
    REGION_ALIGNED = Should, sections::REGION_ENTRY, "region-aligned";
    /// The length of a region is a multiple of 1 MiB.
    REGION_LENGTH = Should, sections::REGION_ENTRY, "region-length";
    /// A region is within the file.
    REGION_INSIDE = Should, sections::REGION_ENTRY, "region-inside-file";
    /// A region is required or not.
    REGION_FLAG = Should, sections::REGION_ENTRY, "region-required-flag";
    /// A required region is known.
    REGION_REQUIRED = Must, sections::REGION_ENTRY, "region-required";
    /// Log, regions and blocks do not overlap.
    OVERLAP = Must, sections::REGION_ENTRY, "overlap";
    /// The metadata table has its signature.
    METADATA_SIGNATURE = Must, sections::METADATA_HEADER, "metadata-signature";
    /// There are at most 2047 metadata items.
    METADATA_COUNT = Must, sections::METADATA_HEADER, "metadata-count";
    /// The reserved fields of the metadata table are zeros.
    METADATA_RESERVED = Should, sections::METADATA_HEADER, "metadata-reserved";
    /// An item is there once.
    ITEM_UNIQUE = Must, sections::METADATA_ENTRY, "item-once";
    /// An item is within the metadata region, behind the table.
    ITEM_INSIDE = Should, sections::METADATA_ENTRY, "item-inside-region";
    /// Items do not overlap.
    ITEM_OVERLAP = Should, sections::METADATA_ENTRY, "item-overlap";
    /// The reserved bits of an item are zeros.
    ITEM_RESERVED = Should, sections::METADATA_ENTRY, "item-reserved";
    /// At most 1024 items are those of users.
    ITEM_USERS = Must, sections::METADATA_ENTRY, "item-user-count";
    /// A required item is known.
    ITEM_REQUIRED = Must, sections::METADATA_ENTRY, "item-required";
    /// The items that every file has are there.
    ITEM_MISSING = Must, sections::KNOWN_ITEMS, "item-missing";
    /// A known item has the flags that it should have.
    ITEM_FLAGS = Should, sections::KNOWN_ITEMS, "item-flags";
    /// A known item is as long as it should be.
    ITEM_LENGTH = Should, sections::KNOWN_ITEMS, "item-length";
    /// The block size is a power of two, 1 MiB to 256 MiB.
    BLOCK_SIZE = Must, sections::FILE_PARAMETERS, "block-size";
    /// The reserved bits of the file parameters are zeros.
    PARAMETERS_RESERVED = Should, sections::FILE_PARAMETERS, "file-parameters-reserved";
    /// The disk consists of sectors.
    DISK_SIZE_UNIT = Must, sections::DISK_SIZE, "virtual-disk-size-unit";
    /// The disk has at most 64 TiB.
    DISK_SIZE = Should, sections::DISK_SIZE, "virtual-disk-size";
    /// The logical sector size is 512 or 4096.
    LOGICAL = Must, sections::LOGICAL, "logical-sector-size";
    /// The physical sector size is 512 or 4096.
    PHYSICAL = Should, sections::PHYSICAL, "physical-sector-size";
    /// A differencing file has a parent locator, and no other file has one.
    LOCATOR = Must, sections::LOCATOR, "parent-locator";
    /// The type of the parent locator is known.
    LOCATOR_TYPE = Must, sections::LOCATOR, "parent-locator-type";
    /// The reserved field of the parent locator is 0.
    LOCATOR_RESERVED = Should, sections::LOCATOR, "parent-locator-reserved";
    /// Keys and values are within the item.
    LOCATOR_ENTRY = Must, sections::LOCATOR_ENTRY, "parent-locator-entry";
    /// Keys and values are text in UTF-16 without zeros.
    LOCATOR_TEXT = Should, sections::LOCATOR_ENTRY, "parent-locator-text";
    /// A key is there once.
    LOCATOR_UNIQUE = Must, sections::LOCATOR_ENTRY, "parent-locator-key-once";
    /// The locator has the identity of the parent.
    LOCATOR_LINKAGE = Must, sections::VHDX_LOCATOR, "parent-linkage";
    /// The locator has a path of the parent.
    LOCATOR_PATH = Must, sections::VHDX_LOCATOR, "parent-path";
    /// The BAT has an entry for each block.
    BAT_SIZE = Must, sections::BAT, "bat-size";
    /// The reserved bits of a BAT entry are zeros.
    BAT_RESERVED = Should, sections::BAT_ENTRY, "bat-entry-reserved";
    /// The state of a payload block is known.
    PAYLOAD_STATE = Must, sections::PAYLOAD_STATES, "payload-state";
    /// Only blocks of differencing files are partially present.
    PARTIAL = Must, sections::PAYLOAD_STATES, "partially-present";
    /// The state of a sector bitmap block is known.
    BITMAP_STATE = Must, sections::BITMAP_STATES, "sector-bitmap-state";
    /// Only differencing files have sector bitmaps.
    BITMAP_UNNEEDED = Should, sections::BITMAP_STATES, "sector-bitmap-unneeded";
    /// A block that is partially present has a sector bitmap.
    BITMAP_MISSING = Must, sections::BITMAP_STATES, "sector-bitmap-missing";
    /// A block is behind the headers and within the file.
    BLOCK_INSIDE = Must, sections::BAT_ENTRY, "block-inside-file";
}
