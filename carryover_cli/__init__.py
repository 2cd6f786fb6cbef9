"""The command `carryover`: one file a verb, each thin over the library and the stages."""
