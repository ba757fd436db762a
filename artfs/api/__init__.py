"""What users of Python import, through `artfs`.

    session     settings in, catalog and store out          ambient   the process's session and current run
    artifact    Artifact: what can be done                  facts     Artifact: what is known
    draft       an artifact before it is logged             pathmap   what it holds, by path
    newfile     a file written straight into a draft        ingest    files into a draft, a draft to a version
    version     an artifact that is logged                  checkout  a version into a directory
    manifest    its entries, as users see them              onefile   one of them into a directory
    files       its files, one by one                       redraft   its content into a draft
    added       where files of this machine went            current   artfs.log() and its like
    run         init() and Run                              tracking  a run while it runs
    public      Api                                         recorded  runs as the catalog has them
    collection  collections, types, registries              filters   of lists
    paging      lists in pages                              values    what runs are told
    telling     how far a call is: a callback, or a bar      loggable  what runs log
    fsspec      artfs:// for fsspec                         upath     and for universal_pathlib
"""
