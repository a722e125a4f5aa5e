"""Videos of this server: uploads, their preparation for browsers, records, signed addresses."""
