"""What a cliff is, in one screen."""

import streamlit as st

st.title("Overview")
