import pytest

from flowsr.group import octahedral_group


@pytest.fixture(params=["O", "Oh"])
def group(request):
    return octahedral_group(request.param)


@pytest.fixture
def full_group():
    return octahedral_group("Oh")
