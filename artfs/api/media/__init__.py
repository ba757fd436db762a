"""Values that an artifact can hold as such: `artifact.add(Table(…), "name")`, `artifact.get("name")`.

Each is stored as a JSON file whose name ends with the class's suffix, and files of its own beside it; the shapes are
those of section 8 of the reference, so that other readers of the format can use them. The values know nothing of
artifacts, catalogs or stores: a Sink takes their files, a Source gives them back (`base`).

    base        Value, Sink, Source            content     a value's bytes: in memory, a file, or in an artifact
    fields      reading JSON that may be hostile           filevalue   what all values with one file share
    extras      libraries that are optional    registry    all classes, by kind
    classes boxes mask image pixels            images, and what is drawn on them
    audio video encode html object3d bokeh     other files
    types cells table frames joined partitioned            tables

numpy, pandas, pyarrow, Pillow, soundfile, PyAV and Bokeh are loaded when a value needs them.
"""
