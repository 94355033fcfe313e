"""Pictures: files, arrays, colours, masks, sheets."""
