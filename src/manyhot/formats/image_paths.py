"""Where images are: paths in files as ids, and addresses for the files of other tools."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Mapping
from urllib.parse import parse_qs, unquote, urlsplit, urlunsplit

import pyarrow as pa
from pyarrow import compute as pc

from manyhot.errors import InputError
from manyhot.formats.reading import cut_for_message, image_ids
from manyhot.tables import Golden, Images, Labels, Votes, one_chunk
from manyhot.tables.image_ids import common_folder, without_option
from manyhot.tables.labels import with_ids_like

_UPLOADED = re.compile(r"^[0-9a-f]{8}-")
"""What Label Studio adds before the names of uploaded files."""


_SIGNED = re.compile(
    r"(x-amz-|x-goog-|awsaccesskeyid|googleaccessid|expires|key-pair-id|policy|signature|token|(s[eigprtv]|spr)$)",
    re.IGNORECASE,
)
"""Parameters that sign an address. They differ between addresses of one image."""


def names_in_addresses(addresses: Mapping[str, object]) -> dict[str, str]:
    """Return the name of each image by its address: its path, without the host or bucket.

    The fragment is kept, because it says which page or region of a file is meant. If images with different
    addresses have the same path, their names also contain what differs: the prefix of an uploaded file and
    the query, or, if this does not suffice, the whole address. The values of `addresses` are the places to
    name in errors.

    Raises
    ------
    InputError
        If a text is not an address.
    """
    names = dict[str, str]()
    same = defaultdict[str, list[str]](list)
    for address, where in addresses.items():
        same[_name_in_address(address, where)].append(address)
    for short, given in same.items():
        of = {address: _unsigned(address) for address in given}
        if len({*of.values()}) == 1:
            names |= dict.fromkeys(given, short)
            continue
        longer = {address: _name_in_address(own, address, whole=True) for address, own in of.items()}
        is_enough = len({*longer.values()}) == len({*of.values()})
        names |= longer if is_enough else of
    return names


def _unsigned(address: str) -> str:
    """Return an address without the parameters that sign it."""
    parts = urlsplit(address)
    kept = [one for one in parts.query.split("&") if one and not _SIGNED.match(one)]
    return urlunsplit(parts._replace(query="&".join(kept)))


def _name_in_address(address: str, where: object, *, whole: bool = False) -> str:
    """Return the path and the fragment; if `whole`, with Label Studio's prefix and the query."""
    try:
        parts = urlsplit(address)
    except ValueError as error:
        raise InputError(
            "This is not an address.", where=where, got=cut_for_message(repr(address))
        ) from error
    local = parse_qs(parts.query).get("d")
    name = local[0] if local else unquote(parts.path)
    if parts.path.startswith("/data/upload/"):
        name = re.sub(r"^.*/", "", name)
        name = name if whole else _UPLOADED.sub("", name)
    if whole and parts.query and not local:
        name += f"?{parts.query}"
    return (name + (f"#{parts.fragment}" if parts.fragment else "")).lstrip("/\\")


def located_ids(names: pa.Array, where: object) -> pa.Array:
    """Return the paths of images as they are written; absolute paths without the folders that all share.

    Label sets keep the folders of relative paths, because other tools find the images by them. Absolute paths
    belong to another machine.

    Raises
    ------
    InputError
        As in `image_ids`.
    """
    paths = image_ids(names, where)
    are_absolute = pc.match_substring_regex(paths, r"^(/|[A-Za-z]:/)")
    return ids_below_folder(paths, where) if pc.all(are_absolute).as_py() else paths


def ids_below_folder(names: pa.Array, where: object) -> pa.Array:
    """Return the paths of images without the folders that all share.

    Raises
    ------
    InputError
        As in `image_ids`.
    """
    paths = image_ids(names, where)
    return pc.utf8_slice_codeunits(paths, len(common_folder(paths))) if len(paths) else paths


def addresses(images: Images | None, content: Labels | Votes | Golden | pa.Table) -> dict[str, str]:
    """Return the address of each image of a table, by its id in this table; empty if none is known."""
    if images is None or "uri" not in images.table.column_names:
        return {}
    named = content.experts if isinstance(content, Golden) else content
    ids = one_chunk(named["image_id"]) if isinstance(named, pa.Table) else named.image_id
    with without_option():
        like, _ = with_ids_like(images, pc.unique(ids), other_name="the table")
    uris = zip(like.image_id.to_pylist(), like.table["uri"].to_pylist(), strict=True)
    return {image: uri for image, uri in uris if uri}


def paths_of(places: Mapping[str, str]) -> dict[str, str]:
    """Return the path of each image below the folder that contains all images, by its id."""
    paths = ids_below_folder(pa.array(places.values(), pa.string()), "the addresses of images")
    return dict(zip(places, paths.to_pylist(), strict=True))
