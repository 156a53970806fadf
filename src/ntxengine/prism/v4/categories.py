"""Categories as v4 tells of them: a VM has their ids alone."""

from __future__ import annotations

from ntxengine.prism.http.error_body import one_line
from ntxengine.prism.http.parse import Uuid
from ntxengine.prism.kept import MAX_LISTED
from ntxengine.prism.listing import readable
from ntxengine.prism.v4.api import CentralApi
from ntxengine.prism.v4.pages import entities
from ntxengine.prism.v4.schema import Camel


class Category(Camel):
    """A category."""

    ext_id: Uuid
    key: str
    value: str


async def category_names(api: CentralApi) -> dict[str, str]:
    """Return all categories, `key=value`, by id.  Errors: PrismError, also where they may not be read."""
    found = await readable(entities(api.list_categories, order_by="key"), Category, what="category", limit=MAX_LISTED)
    return {category.ext_id: one_line(f"{category.key}={category.value}") for category in found}
