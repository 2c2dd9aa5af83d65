"""What a wheel carries beside the packages, all of it inside `workbench`: pages, Streamlit's settings, the bundled model,
problems and recorded runs. Everything else stands in pyproject.toml.
"""

from setuptools import find_packages, setup

setup(
    # Not `workbench.pages`: a folder of that name beside its script makes Streamlit put up a navigation of its own.
    packages=[*find_packages(include=["hdpo*", "workbench*"]), "workbench.page_scripts", "workbench.assets"],
    package_dir={"workbench.page_scripts": "pages", "workbench.assets": "assets"},
    package_data={"workbench": [".streamlit/config.toml", "*.css", "components/web/*"], "workbench.assets": ["**/*"]},
    exclude_package_data={"workbench.assets": ["*.md", "screenshots/*"]},
    include_package_data=False,
)
