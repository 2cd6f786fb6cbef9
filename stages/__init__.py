"""The stages of the pipeline, one verb a file: read artefacts, call the library, write artefacts."""
