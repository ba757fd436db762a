"""The calls about blobs (docs/wire.md), in the form of `routes`."""

from __future__ import annotations

from artfs.wire.bodies import UsageQuery
from artfs.wire.frames import MEDIA_TYPE
from artfs.wire.messages import (
    MAX_FRAMES,
    BlobHost,
    BlobList,
    CollectRequest,
    Located,
    LocateRequest,
    PartsDone,
    ProjectUsage,
    QuotaBody,
    Stored,
    TreeCheck,
    TreesRequest,
    Upload,
    UploadRequest,
)
from artfs.wire.routes import Place, Route

NDJSON = "application/x-ndjson"
OCTETS = "application/octet-stream"
MORE_HEADER = "artfs-more"
"""Of an answer with frames: "1" when not all that was asked for is in it."""

MAX_PART = 64 * 1024 * 1024
"""Bytes of a part of an upload at the most."""

_PROJECT = "/v1/projects/{entity}/{project}"

READ_BLOBS = Route(
    "read_blobs", "POST", "/v1/blobs/read", "Small blobs", right="token", body=BlobList, result=bytes,
    result_media=MEDIA_TYPE,
)
LOCATE_BLOBS = Route(
    "locate_blobs", "POST", "/v1/blobs/locate", "Where blobs are", right="token", body=LocateRequest, result=Located
)
BLOB_HOST = Route(
    "blob_host", "GET", "/v1/blobs/host", "Where most bytes will come from, for who wants to connect ahead", right="token",
    result=BlobHost,
)
READ_OBJECT = Route(
    "read_object", "GET", "/v1/objects/{token}", "A range of an object of the bucket", right="token", result=bytes,
    result_media=OCTETS,
)
READ_TREES = Route(
    "read_trees", "POST", "/v1/trees", "A tree page and those below it", right="token", body=TreesRequest, result=bytes,
    result_media=MEDIA_TYPE,
)
MISSING_BLOBS = Route(
    "missing_blobs", "POST", _PROJECT + "/missing", "Which blobs a project has not", right="writer", place=Place.PROJECT,
    body=BlobList, result=BlobList,
)
STORE_BLOBS = Route(
    "store_blobs", "POST", _PROJECT + "/blobs", "Stores small blobs", right="writer", place=Place.PROJECT, body=bytes,
    result=Stored, body_media=MEDIA_TYPE, max_body=MAX_FRAMES + 1024 * 1024,
)
BEGIN_UPLOAD = Route(
    "begin_upload", "POST", _PROJECT + "/uploads", "Begins to send a large blob, or goes on", right="writer",
    place=Place.PROJECT, body=UploadRequest, result=Upload,
)
PUT_PART = Route(
    "put_part", "PUT", "/v1/uploads/{upload_id}/parts/{number}", "Sends a part of a large blob", right="token", body=bytes,
    body_media=OCTETS, max_body=MAX_PART,
)
PARTS_DONE = Route(
    "parts_done", "POST", "/v1/uploads/{upload_id}/parts", "Tells which parts were sent", right="token", body=PartsDone,
    result=Upload,
)
FINISH_UPLOAD = Route(
    "finish_upload", "POST", "/v1/uploads/{upload_id}/finish", "Has the server check a large blob", right="token",
    result=bytes, result_media=NDJSON,
)
CHECK_TREE = Route(
    "check_tree", "POST", _PROJECT + "/check", "Looks whether a tree can be committed", right="writer", place=Place.PROJECT,
    body=TreeCheck, result=bytes, result_media=NDJSON,
)

USAGE = Route(
    "usage", "GET", _PROJECT + "/usage", "What a project takes, and how much of it its collections need", place=Place.PROJECT,
    query=UsageQuery, result=ProjectUsage,
)
SET_QUOTA = Route(
    "set_quota", "PUT", _PROJECT + "/quota", "Says how many bytes the blobs of a project may be", right="server",
    body=QuotaBody, audited=True,
)
COLLECT_GARBAGE = Route(
    "collect_garbage", "POST", "/v1/gc", "Removes what no version needs", right="server", body=CollectRequest, result=bytes,
    result_media=NDJSON,
)

BLOB_ROUTES = (
    READ_BLOBS, LOCATE_BLOBS, READ_OBJECT, READ_TREES, MISSING_BLOBS, STORE_BLOBS, BEGIN_UPLOAD, PUT_PART, PARTS_DONE,
    FINISH_UPLOAD, CHECK_TREE, USAGE, SET_QUOTA, COLLECT_GARBAGE,
)
