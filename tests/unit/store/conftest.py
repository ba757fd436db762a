import pytest

# For the details of a failed assert.
pytest.register_assert_rewrite("artfs.testing.store_contract")
