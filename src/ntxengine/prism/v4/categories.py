"""Categories as v4 tells of them: a VM has their ids alone."""

from __future__ import annotations

from collections.abc import Collection

from ntxengine.prism.http.error_body import one_line
from ntxengine.prism.http.parse import Uuid
from ntxengine.prism.kept import MAX_LISTED
from ntxengine.prism.listing import readable
from ntxengine.prism.v4.api import CentralApi
from ntxengine.prism.v4.pages import entities
from ntxengine.prism.v4.schema import Camel, CategoryNames


class Category(Camel):
    """A category."""

    ext_id: Uuid
    key: str
    value: str


async def category_names(api: CentralApi, wanted: Collection[str]) -> CategoryNames:
    """Return all categories that can be read.  Errors: PrismError, also where they may not be read."""
    found = await readable(entities(api.list_categories, order_by="key"), Category, what="category", limit=MAX_LISTED)
    names = {category.ext_id: one_line(f"{category.key}={category.value}") for category in found}
    return CategoryNames(names, are_enough=set(wanted) <= set(names.values()))
