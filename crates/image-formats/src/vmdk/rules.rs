//! The rules of the format.

use super::layout::sections;
use crate::checker::rules;

rules! {
    /// The descriptor has a version, 1 to 3.
    TEXT_VERSION = Must, sections::DESCRIPTOR, "descriptor-version";
    /// The content identifier has up to 8 hexadecimal digits.
    CONTENT_ID = Must, sections::DESCRIPTOR, "cid";
    /// So has that of the parent.
    PARENT_ID = Must, sections::DESCRIPTOR, "parent-cid";
    /// The type of the disk is known.
    CREATE_TYPE = Must, sections::DESCRIPTOR, "create-type";
    /// The name of the parent is there exactly where its identifier is.
    PARENT_HINT = Should, sections::DESCRIPTOR, "parent-hint";
    /// There are extents.
    EXTENTS = Must, sections::DESCRIPTOR, "extents";
    /// The disk has as many extents as its type says.
    EXTENT_COUNT = Should, sections::DESCRIPTOR, "extent-count";
    /// The access of an extent is written in capitals.
    EXTENT_ACCESS = Should, sections::DESCRIPTOR, "extent-access";
    /// The size of an extent is a number of sectors, at least 1.
    EXTENT_SIZE = Must, sections::DESCRIPTOR, "extent-size";
    /// The disk is not too large for offsets in bytes.
    DISK_SIZE = Must, sections::DESCRIPTOR, "disk-size";
    /// The type of an extent is known.
    EXTENT_TYPE = Must, sections::DESCRIPTOR, "extent-type";
    /// The extents are of the types that the type of the disk says.
    EXTENT_TYPE_OF_DISK = Should, sections::DESCRIPTOR, "extent-type-of-disk";
    /// An extent has a file name, between quotes, unless it is zeros.
    EXTENT_NAME = Must, sections::DESCRIPTOR, "extent-file-name";
    /// A flat extent has an offset, and no other.
    EXTENT_OFFSET = Must, sections::DESCRIPTOR, "extent-offset";
    /// The one extent is as large as the disk in it.
    EXTENT_CAPACITY = Should, sections::DESCRIPTOR, "extent-capacity";
    /// Each line is a comment, a key with a value or an extent.
    LINES = Should, sections::DESCRIPTOR, "lines";
    /// Nothing follows the text.
    TEXT_END = Should, sections::DESCRIPTOR, "text-end";
    /// The version of a sparse extent is 1 to 3.
    VERSION = Must, sections::HEADER, "version";
    /// No unknown flag is set.
    FLAGS = Should, sections::HEADER, "flags";
    /// Zeroed grains are from version 2 on.
    ZEROED_VERSION = Should, sections::HEADER, "zeroed-grains-version";
    /// The flag and the algorithm of compression agree.
    COMPRESSION = Must, sections::HEADER, "compression";
    /// The algorithm of compression is known.
    ALGORITHM = Must, sections::HEADER, "compress-algorithm";
    /// The disk is not too large for offsets in bytes, and not empty.
    CAPACITY = Must, sections::HEADER, "capacity";
    /// A grain is a power of two of sectors that numbers of 32 bits can count.
    GRANULARITY = Must, sections::HEADER, "granularity";
    /// A grain is larger than 8 sectors.
    SMALL_GRAIN = Should, sections::HEADER, "small-grain";
    /// The embedded descriptor is within the file.
    DESCRIPTOR_INSIDE = Must, sections::HEADER, "descriptor-inside-file";
    /// A grain table has 512 entries.
    NUM_GTES = Must, sections::HEADER, "num-gtes-per-gt";
    /// The first sector behind the metadata is within the file.
    OVERHEAD_INSIDE = Must, sections::HEADER, "overhead-inside-file";
    /// Whether the extent was closed is 0 or 1.
    UNCLEAN = Should, sections::HEADER, "unclean-shutdown";
    /// What is not used is zero.
    PADDING = Should, sections::HEADER, "padding";
    /// The grain directory is within the file, and not in the header.
    DIRECTORY_INSIDE = Must, sections::TABLES, "grain-directory-inside-file";
    /// The redundant grain directory is there where the flag says so.
    REDUNDANT_INSIDE = Must, sections::TABLES, "redundant-directory-inside-file";
    /// Both directories have the same tables.
    REDUNDANT_ENTRY = Should, sections::TABLES, "redundant-directory-entry";
    /// The redundant grain tables are copies.
    REDUNDANT = Should, sections::TABLES, "redundant-copy";
    /// A grain table is within the file, and not in the header.
    TABLE_INSIDE = Must, sections::TABLES, "grain-table-inside-file";
    /// A grain is within the file, and not in the header.
    GRAIN_INSIDE = Must, sections::TABLES, "grain-inside-file";
    /// A grain is not in the metadata.
    GRAIN_IN_METADATA = Should, sections::TABLES, "grain-behind-metadata";
    /// No two structures share a sector.
    ONCE = Should, sections::TABLES, "referenced-once";
    /// There is a footer where the grain directory is at the end.
    FOOTER_THERE = Must, sections::STREAM, "footer";
    /// The footer is a copy of the header but for the offset of the grain directory.
    FOOTER = Should, sections::STREAM, "footer-copy";
    /// The marker before the footer says what it is.
    FOOTER_MARKER_TYPE = Must, sections::STREAM, "footer-marker";
    /// The last sector is an end-of-stream marker.
    END_MARKER_TYPE = Must, sections::STREAM, "end-of-stream-marker";
    /// A marker counts the sectors that follow it, and has no size.
    MARKER = Should, sections::STREAM, "marker";
    /// The marker of a grain repeats the first sector of the grain.
    MARKER_LBA = Should, sections::STREAM, "marker-lba";
    /// The data of a compressed grain are a valid stream of a grain at most.
    COMPRESSED_GRAIN = Must, sections::STREAM, "compressed-grain";
    /// The version of an ESX Server extent is 1.
    COWD_VERSION = Must, sections::COWD, "cowd-version";
    /// Its flags are 3.
    COWD_FLAGS = Should, sections::COWD, "cowd-flags";
    /// A grain has at least one sector.
    COWD_GRANULARITY = Must, sections::COWD, "cowd-granularity";
    /// The grain directory has as many entries as the capacity needs.
    COWD_DIRECTORY = Must, sections::COWD, "cowd-directory-entries";
    /// The first free sector is within the file, behind all that is used.
    COWD_FREE = Should, sections::COWD, "cowd-free-sector";
    /// The version of a space-efficient extent is 2.1.
    SE_VERSION = Must, sections::SE, "se-version";
    /// Its grains have 8 sectors.
    SE_GRAIN = Must, sections::SE, "se-grain-size";
    /// Its grain tables have 64 sectors.
    SE_TABLE = Must, sections::SE, "se-grain-table-size";
    /// It has no flags, and what is reserved is zero.
    SE_RESERVED = Must, sections::SE, "se-reserved";
    /// Its regions are within the file.
    SE_REGION = Should, sections::SE, "se-region-inside-file";
    /// Its grain directory has an entry for each table that the capacity needs.
    SE_DIRECTORY = Must, sections::SE, "se-directory-size";
    /// Its journal is not to be replayed.
    SE_JOURNAL = Must, sections::SE, "se-journal";
    /// The entries of its tables have types that are known, and no reserved bits.
    SE_ENTRY = Must, sections::SE, "se-entry";
    /// The numbers in its entries are within their region.
    SE_NUMBER = Should, sections::SE, "se-number-in-region";
    /// The next free grain table is behind those in use.
    SE_FREE_TABLE = Should, sections::SE, "se-free-table";
}
