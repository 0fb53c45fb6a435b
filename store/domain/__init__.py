"""What the store does: functions over metadata, media, a parsed request and the time."""
